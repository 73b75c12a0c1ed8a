"""MoCo v2: a query finds the slow network's key of its image's other view among a queue of other images' keys.

Source: He et al. 2020 (Eq. 1, 2; Algorithm 1) and Chen et al. 2020b (two-layer head without BatchNorm, temperature
0.2, stronger views). ShuffleBN (section 3.3): queries and keys must not share a BatchNorm's batch, or the statistics
give the answer away. The batch is normalised in `splits` groups and the keys' groups are drawn anew: on 8 devices that
is the paper, on one device the authors' CIFAR notebook. The symmetric loss is the notebook's: it counts as two epochs.
The slow copy moves before the next keys are made, as in the released code.

Cost: one pass with a gradient and one without (two and two when symmetric), and a queue in memory.
Use: contrast with small batches; the base of SlimCLR.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor, nn

from wisp.data.loader import Batch
from wisp.encoders.heads import mlp
from wisp.encoders.slow import SlowCopy
from wisp.losses.contrastive import Contrast, against_queue, info_nce, unit
from wisp.losses.global_batch import average, gather
from wisp.methods.barlow_twins import usual_redundancy
from wisp.methods.method import Method, Settings, Surroundings
from wisp.methods.parts.bases import Embed, directions, weighted
from wisp.methods.parts.queue import Queue, overlong, queue_size
from wisp.methods.parts.ranges import fractions, positive
from wisp.methods.parts.shuffle import in_groups, shuffled
from wisp.methods.parts.solo_learn import cifar


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of MoCo v2."""

    temperature: float = 0.2
    """Divides the cosines; Chen et al. 2020b, Table 2."""
    momentum: float = 0.99
    """Of the slow copy; the authors' CIFAR notebook (0.999 on ImageNet; He et al. 2020, section 4.1)."""
    queue: int | None = None
    """K; a multiple of the batch, up to the paper's 65536 and half of the images, unless given."""
    symmetric: bool = False
    """Whether both views are queries in turn; the paper's loss is one-sided."""
    splits: int = 8
    """Groups of the global batch that BatchNorm normalises by themselves; the paper's 8 devices."""
    hidden: int = 2048
    """Hidden width of the head; the width of ResNet-50's features, as in the paper."""
    out: int = 128
    """E, width of the embedding; the paper."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        positive(temperature=self.temperature, splits=self.splits)
        fractions(momentum=self.momentum)


PAPER_QUEUE = 65536
SETTINGS = {
    "small": cifar("mocov2plus.yaml", plan="mocov2_cifar", lr=0.3, weight_decay=1e-4, optimizer="sgd"),
    "large": Settings(
        plan="mocov2",
        epochs=200,
        batch_size=256,
        optimizer="sgd",
        lr=0.03,
        weight_decay=1e-4,
        warmup_epochs=0,
        lr_scale="linear",
        source="He et al. 2020, section 4; Chen et al. 2020b (cosine, 200 epochs)",
    ),
}


def trained_as_moco(source: str, *, small: str = "mocov2_cifar", large: str = "mocov2") -> dict[str, Settings]:
    """MoCo v2's training on ImageNet, which many papers of this kind take as it is, for small images too.

    Args:
        source: that says so.
        small: view plan for small images.
        large: for large ones.
    """
    base = SETTINGS["large"]
    return {"small": replace(base, plan=small, source=source), "large": replace(base, plan=large, source=source)}


@final
class MocoV2(Method):
    """A network, its slow copy and a queue of keys."""

    synchronised = False

    def __init__(self, config: Config, encoder: nn.Module, surroundings: Surroundings) -> None:
        super().__init__()
        self.views = surroundings.plan
        self.config = config
        self.network = nn.Sequential(encoder, mlp([surroundings.features, config.hidden, config.out], norm=False))
        self.slow = SlowCopy(self.network)
        self.images, self.step = surroundings.images, surroundings.batch_size * (2 if config.symmetric else 1)
        self.queue = Queue(queue_size(config.queue, PAPER_QUEUE, images=self.images, step=self.step), config.out)
        self.fresh: Tensor | None = None

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Two views [B,3,H,W] -> InfoNCE against the queue."""
        targets = self.targets(batch.views, progress)
        return weighted(self.terms(self.embeddings((self.network, self.network), batch.views), targets))

    def targets(self, views: tuple[Tensor, ...], progress: float) -> list[Tensor]:
        """Keys [B,E] of the second view, then of the first where the loss is symmetric; they wait for `after_step`."""
        seen = [views[1], views[0]] if self.config.symmetric else [views[1]]
        keys = [unit(shuffled(self.slow, view, self.config.splits, progress)) for view in seen]
        self.fresh = torch.cat([gather(each) for each in keys])
        return keys

    def embeddings(self, embeds: Sequence[Embed], views: tuple[Tensor, ...]) -> list[Tensor]:
        """Queries: the first view, or both, through its network in groups, as unit rows: [B,3,H,W] -> [B,E]."""
        asking = list(zip(embeds, views, strict=True))[: 2 if self.config.symmetric else 1]
        return [unit(in_groups(embed, view, self.config.splits)) for embed, view in asking]

    def outputs(self, views: tuple[Tensor, ...]) -> list[Tensor]:
        """What the network makes of every view, query or not, in groups and not normalised: [B,3,H,W] -> [B,E] each."""
        return [in_groups(self.network, view, self.config.splits) for view in views]

    def compared(self, outputs: list[Tensor], views: tuple[Tensor, ...], progress: float) -> dict[str, Tensor]:
        """The weighted terms of all views' `outputs`, of which the queries take part."""
        targets = self.targets(views, progress)
        return weighted(self.terms([unit(z) for z in outputs[: len(targets)]], targets))

    def contrasts(self, z: Sequence[Tensor], targets: list[Tensor]) -> list[Contrast]:
        """The similarities in which the queries, unit rows [B,E], should find their keys."""
        queue, filled = self.queue.keys, self.queue.filled
        return [against_queue(query, keys, queue, filled) for query, keys in zip(z, targets, strict=True)]

    def loss(self, contrasts: list[Contrast]) -> Tensor:
        """Mean over the global batch and the directions."""
        return average(torch.stack([info_nce(*each, self.config.temperature) for each in contrasts]).mean())

    def terms(self, z: Sequence[Tensor], targets: list[Tensor]) -> dict[str, tuple[float, Tensor]]:
        """Weight and value of the loss of queries [B,E]."""
        return {"contrast": (1.0, self.loss(self.contrasts(z, targets)))}

    def standard(self, z: Tensor) -> Tensor:
        """The queries [B,E] over the global batch and standardised, [N,E]."""
        return directions(z)

    def worth(self) -> float:
        """The loss falls by 1 / t for a cosine, where the positive is as likely as any of many keys."""
        return 0.5 / (self.config.temperature * self.config.out)

    def redundancy(self) -> float:
        """The loss has no such term."""
        return usual_redundancy(self.config.out)

    def after_step(self, progress: float) -> None:
        """The slow copy follows, the keys of this step join the queue."""
        self.slow.follow(self.network, self.config.momentum)
        if self.fresh is not None:
            self.queue.put(self.fresh)
            self.fresh = None

    def chosen(self) -> dict[str, float]:
        """K."""
        return {"queue": len(self.queue.keys)}

    def warnings(self) -> list[str]:
        """A queue that holds most of the data."""
        return overlong(len(self.queue.keys), images=self.images, step=self.step)

    def encoders(self) -> dict[str, nn.Module]:
        """The encoder that was trained, not its slow copy."""
        return {"1x": self.network[0]}

    def head(self) -> nn.Module:
        """The projection head."""
        return self.network[1]
