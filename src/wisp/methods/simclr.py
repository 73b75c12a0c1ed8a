"""SimCLR: two views of an image find each other among the views of the whole batch.

Source: Chen et al. 2020, Eq. 1 and Algorithm 1 (NT-Xent: 2N - 2 negatives). The projector is the paper's two layers;
its code puts BatchNorm behind both, solo-learn's CIFAR recipe behind none, which is followed here. The temperature is
solo-learn's 0.2 on CIFAR; the paper has 0.5 there and 0.1 on ImageNet.

Cost: as Barlow Twins, with 2N x 2N similarities.
Use: the plain contrast; it wants large batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from wisp.data.loader import Batch
from wisp.encoders.heads import mlp
from wisp.losses.contrastive import Contrast, between_views, info_nce, unit
from wisp.losses.global_batch import average, gather, rank
from wisp.methods.barlow_twins import usual_redundancy
from wisp.methods.method import Method, Settings, Surroundings
from wisp.methods.parts.bases import Embed, directions, weighted
from wisp.methods.parts.ranges import positive
from wisp.methods.parts.solo_learn import cifar


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of SimCLR."""

    temperature: float = 0.2
    """Divides the cosines; solo-learn on CIFAR (0.1 on ImageNet in the paper)."""
    hidden: int = 2048
    """Hidden width of the projector; solo-learn and the paper."""
    out: int = 256
    """E, width of the embedding; solo-learn (128 in the paper)."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        positive(temperature=self.temperature)


SETTINGS = {
    "small": cifar("simclr.yaml", plan="simclr_cifar", lr=0.4, weight_decay=1e-4),
    "large": Settings(
        plan="simclr",
        epochs=100,
        batch_size=4096,
        optimizer="lars",
        lr=4.8,
        weight_decay=1e-6,
        warmup_epochs=10,
        lr_scale="linear",
        source="Chen et al. 2020, section 2.2 (0.3 for each 256 images)",
    ),
}


@final
class SimCLR(Method):
    """One dense network, two views, all other views of the batch as negatives."""

    def __init__(self, config: Config, encoder: nn.Module, surroundings: Surroundings) -> None:
        super().__init__()
        self.views = surroundings.plan
        self.config = config
        self.network = nn.Sequential(encoder, mlp([surroundings.features, config.hidden, config.out], norm=False))

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Two views [B,3,H,W] -> NT-Xent over the global batch."""
        return weighted(self.terms(self.embeddings((self.network, self.network), batch.views), []))

    def targets(self, views: tuple[Tensor, ...], progress: float) -> list[Tensor]:
        """None: both sides of this contrast are trained."""
        return []

    def embeddings(self, embeds: Sequence[Embed], views: tuple[Tensor, ...]) -> list[Tensor]:
        """Each view through its network, as unit rows: [B,3,H,W] -> [B,E]."""
        return [unit(embed(view)) for embed, view in zip(embeds, views, strict=True)]

    def contrasts(self, z: Sequence[Tensor], targets: list[Tensor]) -> list[Contrast]:
        """The similarities in which the unit rows [B,E] of both views should find the positives."""
        za, zb = z
        return [between_views(za, zb, gather(za), gather(zb), rank() * len(za))]

    def loss(self, contrasts: list[Contrast]) -> Tensor:
        """Mean over the global batch."""
        return average(torch.stack([info_nce(*each, self.config.temperature) for each in contrasts]).mean())

    def terms(self, z: Sequence[Tensor], targets: list[Tensor]) -> dict[str, tuple[float, Tensor]]:
        """Weight and value of the loss of unit rows [B,E]."""
        return {"contrast": (1.0, self.loss(self.contrasts(z, targets)))}

    def standard(self, z: Tensor) -> Tensor:
        """The unit rows [B,E] over the global batch and standardised, [N,E]."""
        return directions(z)

    def worth(self) -> float:
        """The loss falls by 1 / t for a cosine, where the positive is as likely as any of many candidates."""
        return 0.5 / (self.config.temperature * self.config.out)

    def redundancy(self) -> float:
        """The loss has no such term."""
        return usual_redundancy(self.config.out)

    def encoders(self) -> dict[str, nn.Module]:
        """The encoder that was trained."""
        return {"1x": self.network[0]}

    def head(self) -> nn.Module:
        """The projection head."""
        return self.network[1]
