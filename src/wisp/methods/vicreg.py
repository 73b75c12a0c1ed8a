"""VICReg: two views agree, every dimension keeps its variance, different dimensions do not covary.

Source: Bardes et al. 2022, Eq. 1-6, with the weights of section 4.2. As in the authors' code the variance terms of the
two views are averaged, their covariance terms summed, the invariance is a mean over images and dimensions, and
embeddings are not normalised. The released file of the code has further terms that the paper does not: left out.
CIFAR values: solo-learn.

Cost: as Barlow Twins.
Use: decorrelation of embeddings that are not normalised, so that views may come from different networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from wisp.data.loader import Batch
from wisp.encoders.heads import projector
from wisp.losses.decorrelation import covariance, standardize, variance_hinge
from wisp.losses.global_batch import gather
from wisp.losses.precision import full_precision
from wisp.methods.method import Method, Settings, Surroundings
from wisp.methods.parts.bases import Embed, weighted
from wisp.methods.parts.solo_learn import cifar

mse = full_precision(F.mse_loss)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of VICReg."""

    invariance: float = 25.0
    """Weight of the squared distance of the views; section 4.2."""
    variance: float = 25.0
    """Weight of the variance hinge; section 4.2."""
    covariance: float = 1.0
    """Weight of the covariance; section 4.2."""
    hidden: int = 2048
    """Hidden width of the projector; solo-learn (8192 in the paper, for ResNet-50)."""
    out: int = 2048
    """E, width of the embedding; solo-learn (8192 in the paper)."""


SETTINGS = {
    "small": cifar("vicreg.yaml", plan="vicreg_cifar", lr=0.3, weight_decay=1e-4),
    "large": Settings(
        plan="byol",
        epochs=100,
        batch_size=512,
        optimizer="lars",
        lr=0.6,
        weight_decay=1e-6,
        warmup_epochs=10,
        lr_scale="linear",
        source="facebookresearch/vicreg, README, 100 epochs (0.3 for each 256 images; 0.2 for 1,000 epochs)",
    ),
}


@final
class VICReg(Method):
    """One dense network, two views."""

    def __init__(self, config: Config, encoder: nn.Module, surroundings: Surroundings) -> None:
        super().__init__()
        self.views = surroundings.plan
        self.config = config
        self.network = nn.Sequential(encoder, projector(surroundings.features, config.hidden, config.out))

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Two views [B,3,H,W] -> the three terms over [N,E]."""
        return weighted(self.terms(self.embeddings((self.network, self.network), batch.views), []))

    def targets(self, views: tuple[Tensor, ...], progress: float) -> list[Tensor]:
        """None: both sides are trained."""
        return []

    def embeddings(self, embeds: Sequence[Embed], views: tuple[Tensor, ...]) -> list[Tensor]:
        """Each view through its network, over the global batch: [B,3,H,W] -> [N,E]."""
        return [gather(embed(view)) for embed, view in zip(embeds, views, strict=True)]

    def terms(self, z: Sequence[Tensor], targets: list[Tensor]) -> dict[str, tuple[float, Tensor]]:
        """Weight and value of the three terms over [N,E]."""
        c, (za, zb) = self.config, z
        return {
            "invariance": (c.invariance, mse(za, zb)),
            "variance": (c.variance, (variance_hinge(za) + variance_hinge(zb)) / 2),
            "covariance": (c.covariance, covariance(za) + covariance(zb)),
        }

    def standard(self, z: Tensor) -> Tensor:
        """The embedding [N,E], standardised."""
        return standardize(z)

    def worth(self) -> float:
        """The mean squared distance of two numbers of variance 1 is 2 - 2 C."""
        return self.config.invariance / self.config.out

    def redundancy(self) -> float:
        """The covariance of both views over the invariance."""
        return 2 * self.config.covariance / self.config.invariance

    def encoders(self) -> dict[str, nn.Module]:
        """The encoder that was trained."""
        return {"1x": self.network[0]}

    def head(self) -> nn.Module:
        """The expander."""
        return self.network[1]
