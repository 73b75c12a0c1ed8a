"""DINO: a student matches what its slow copy, centred and sharpened, sees in another view; no labels, no negatives.

Source: Caron et al. 2021, Eq. 1-4 and Algorithm 1, and the released main_dino.py. The teacher sees the first two views,
the student all. The head is three layers with GELU, a bottleneck of length 1 and prototypes of length 1 (weight
normalisation with its gain at 1), which are fixed at first. The teacher's entropy is subtracted from the printed
cross-entropy: the gradient is the same, and 0 is agreement. What the code gives in epochs is a fraction of its training
here. Left out: gradient clipping and the growing weight decay of ViT. CIFAR values: solo-learn.

Convolutional encoders need BatchNorm in the head (section 3.1: a ViT has it nowhere, and so neither has its head). The
features of one that is not trained point nearly one way; without it so do the bottlenecks, the teacher says next to
nothing, and the student learns nothing from it in a short training.

Cost: two passes without a gradient more than Barlow Twins, and scores with the prototypes; each local view adds its
own.
Use: multi-crop; of transformers a ViT, and views of whole patches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from wisp.data.loader import Batch
from wisp.encoders.heads import mlp
from wisp.encoders.slow import SlowCopy, momentum_at
from wisp.losses.clustering import sharpened, soft_divergence
from wisp.losses.contrastive import cosines, unit
from wisp.losses.global_batch import average, gather
from wisp.methods.method import Method, Settings, Surroundings
from wisp.methods.parts.ranges import crowded, fractions, positive
from wisp.methods.parts.solo_learn import cifar

TAUGHT = 2


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of DINO."""

    momentum: float = 0.9995
    """Of the slow copy at the start; it grows to 1 along a cosine. solo-learn on CIFAR (0.996 in the paper)."""
    temperature: float = 0.1
    """Of the student; the paper."""
    teacher_start: float = 0.04
    """The teacher's temperature at first; the paper."""
    teacher_end: float = 0.07
    """The teacher's temperature after its warm-up; the paper."""
    teacher_warmup: float = 0.1
    """Fraction of the training in which it grows; 30 of 300 epochs in the paper."""
    centre_momentum: float = 0.9
    """Of the centre; the paper, Eq. 4."""
    frozen: float = 0.01
    """Fraction of the training with fixed prototypes; the first of 100 epochs in the code."""
    prototypes: int = 4096
    """P; solo-learn (65536 in the paper)."""
    hidden: int = 2048
    """Hidden width of the head; the paper."""
    out: int = 256
    """E, width of the bottleneck; the paper."""
    head_norm: bool = True
    """BatchNorm in the head; the code's --use_bn_in_head, which it leaves off: for a ViT."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        positive(
            temperature=self.temperature,
            teacher_start=self.teacher_start,
            teacher_end=self.teacher_end,
            prototypes=self.prototypes,
            hidden=self.hidden,
            out=self.out,
        )
        fractions(
            momentum=self.momentum,
            teacher_warmup=self.teacher_warmup,
            centre_momentum=self.centre_momentum,
            frozen=self.frozen,
        )


SETTINGS = {
    "small": cifar("dino.yaml", plan="sacl_xd_cifar10", lr=0.3, weight_decay=1e-6),
    "large": Settings(
        plan="dino",
        epochs=100,
        batch_size=1024,
        optimizer="adamw",
        lr=2e-3,
        weight_decay=0.04,
        warmup_epochs=10,
        lr_scale="linear",
        source="Caron et al. 2021, section 3.2 (0.0005 for each 256 images)",
    ),
}


class Head(nn.Module):
    """Features to bottlenecks of length 1, [B,D] -> [B,E], and the prototypes that they are compared with."""

    def __init__(self, features: int, config: Config) -> None:
        super().__init__()
        widths = [features, config.hidden, config.hidden, config.out]
        self.layers = mlp(widths, norm=config.head_norm, last="biased", activation=nn.GELU)
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        # Only directions count, but the shorter a row, the further one step turns it; torch's linear layers begin so.
        bound = config.out**-0.5
        self.prototypes = nn.Parameter(torch.empty(config.prototypes, config.out).uniform_(-bound, bound))

    def forward(self, features: Tensor, fixed: bool = False) -> Tensor:
        """Cosines with the prototypes, [B,D] -> [B,P]; `fixed` prototypes get no gradient."""
        prototypes = self.prototypes.detach() if fixed else self.prototypes
        return cosines(unit(self.layers(features)), unit(prototypes))


@final
class DINO(Method):
    """A student, its slow copy, and the centre of what the copy says."""

    view_count: ClassVar[tuple[int, int | None]] = (2, None)
    centre: Tensor

    def __init__(self, config: Config, encoder: nn.Module, surroundings: Surroundings) -> None:
        super().__init__()
        self.views = surroundings.plan
        self.config, self.images = config, surroundings.images
        self.network = nn.Sequential(encoder, Head(surroundings.features, config))
        self.teacher = SlowCopy(self.network)
        self.register_buffer("centre", torch.zeros(config.prototypes))
        self.fresh: Tensor | None = None

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """V views [B,3,H,W], the first two also taught -> mean divergence of the student from the teacher."""
        c = self.config
        taught = [self.teacher(view) for view in batch.views[:TAUGHT]]
        self.fresh = torch.cat([gather(each) for each in taught])
        targets = [sharpened(each, self.centre, self.teacher_temperature(progress)) for each in taught]
        fixed = progress < c.frozen
        said = [self.network[1](self.network[0](view), fixed) for view in batch.views]
        losses = [
            soft_divergence(said[v], target, c.temperature)
            for i, target in enumerate(targets)
            for v in range(len(said))
            if v != i
        ]
        return {"distill": average(torch.stack(losses).mean())}

    def teacher_temperature(self, progress: float) -> float:
        """Linear from its start to its end while it warms up."""
        c = self.config
        share = min(1.0, progress / c.teacher_warmup) if c.teacher_warmup else 1.0
        return c.teacher_start + share * (c.teacher_end - c.teacher_start)

    def phases(self) -> tuple[float, ...]:
        """Fixed prototypes, if any, and free ones."""
        return (0.0, self.config.frozen) if self.config.frozen else (0.0,)

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """The slow copy follows, the centre moves towards the mean of what it said (Eq. 4)."""
        self.teacher.follow(self.network, momentum_at(self.config.momentum, progress))
        if self.fresh is not None:
            self.centre.lerp_(self.fresh.mean(0).to(self.centre.dtype), 1 - self.config.centre_momentum)
            self.fresh = None

    def warnings(self) -> list[str]:
        """More prototypes than the images suit."""
        return crowded(self.config.prototypes, self.images)

    def encoders(self) -> dict[str, nn.Module]:
        """The student's encoder, and the slow copy's, which the paper evaluates; it lags behind in a short training."""
        teacher = self.teacher.network
        assert isinstance(teacher, nn.Sequential)
        return {"1x": self.network[0], "teacher": teacher[0]}

    def head(self) -> nn.Module:
        """The layers before the prototypes."""
        head = self.network[1]
        assert isinstance(head, Head)
        return head.layers
