"""Barlow Twins: two views of an image agree dimension by dimension, and different dimensions do not repeat.

Source: Zbontar et al. 2021, Eq. 1 and 2. Embeddings are standardised with the biased variance and divided by the
global batch size, as in the authors' code (an affine-free BatchNorm). Each view passes the network by itself, so that
BatchNorm sees one view at a time. The authors' learning rates do not grow linearly with the batch
(facebookresearch/barlowtwins #7): `lr_scale` is none. `scale` matters although LARS normalises gradients, because
LARS leaves one-dimensional parameters alone (#23). CIFAR values: solo-learn, as SACL-XD does.

Cost: the reference of all these lines: two passes of the network, and a correlation of the embeddings.
Use: the plain baseline; it gets along with small batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from torch import Tensor, nn

from wisp.data.loader import Batch
from wisp.encoders.heads import projector
from wisp.losses.decorrelation import barlow, standardize
from wisp.losses.global_batch import gather
from wisp.methods.method import Method, Settings, Surroundings
from wisp.methods.parts.bases import Embed, weighted


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of Barlow Twins."""

    lam: float = 0.0051
    """Weight of the off-diagonal terms; authors' code and solo-learn (SACL-XD prints 0.005 for ImageNet)."""
    scale: float = 0.1
    """Factor on the loss; solo-learn, CIFAR and ImageNet-100."""
    hidden: int = 2048
    """Hidden width of the projector; solo-learn (8192 in the paper, for ResNet-50)."""
    out: int = 2048
    """E, width of the embedding; solo-learn (8192 in the paper)."""


PLAIN_LR = 0.0048 / 0.2
"""Biases and norms: ratio of the two learning rates in the authors' code. At the full rate they explode early."""

SETTINGS = {
    "small": Settings(
        plan="sacl_xd_cifar10",
        epochs=1000,
        batch_size=256,
        optimizer="lars",
        lr=0.3,
        weight_decay=1e-4,
        warmup_epochs=10,
        plain_lr=PLAIN_LR,
        trust=0.02,
        clip=True,
        source="SACL-XD A.3 (CIFAR-10), which follows solo-learn; LARS detail from solo-learn",
    ),
    "large": Settings(
        plan="sacl_xd_imagenet",
        epochs=100,
        batch_size=256,
        optimizer="lars",
        lr=0.8,
        weight_decay=1.5e-6,
        warmup_epochs=10,
        plain_lr=PLAIN_LR,
        source="SACL-XD A.3 (ImageNet-1K); 10 warm-up epochs from its scripts",
    ),
}


def usual_redundancy(out: int) -> float:
    """`TwoViews.redundancy` of a loss that has no such term.

    The mean over all pairs has the ratio to the pull between the views that it has in Barlow Twins, whatever E,
    temperature and batch are.

    Args:
        out: E.
    """
    usual = Config()
    return usual.lam * (usual.out - 1) / max(1, out - 1)


@final
class BarlowTwins(Method):
    """One dense network, two views."""

    def __init__(self, config: Config, encoder: nn.Module, surroundings: Surroundings) -> None:
        super().__init__()
        self.views = surroundings.plan
        self.config = config
        self.network = nn.Sequential(encoder, projector(surroundings.features, config.hidden, config.out))

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Two views [B,3,H,W] -> the Barlow Twins loss over [N,E]."""
        return weighted(self.terms(self.embeddings((self.network, self.network), batch.views), []))

    def targets(self, views: tuple[Tensor, ...], progress: float) -> list[Tensor]:
        """None: both sides are trained."""
        return []

    def embeddings(self, embeds: Sequence[Embed], views: tuple[Tensor, ...]) -> list[Tensor]:
        """Each view through its network, over the global batch and standardised: [B,3,H,W] -> [N,E]."""
        return [standardize(gather(embed(view))) for embed, view in zip(embeds, views, strict=True)]

    def terms(self, z: Sequence[Tensor], targets: list[Tensor]) -> dict[str, tuple[float, Tensor]]:
        """Weight and value of the loss over [N,E]."""
        za, zb = z
        return {"contrast": (self.config.scale, barlow(za, zb, self.config.lam))}

    def standard(self, z: Tensor) -> Tensor:
        """The embedding [N,E] as it is."""
        return z

    def worth(self) -> float:
        """The loss has it so."""
        return self.config.scale

    def redundancy(self) -> float:
        """Its weight in the loss."""
        return self.config.lam

    def encoders(self) -> dict[str, nn.Module]:
        """The encoder that was trained."""
        return {"1x": self.network[0]}

    def head(self) -> nn.Module:
        """The projector."""
        return self.network[1]
