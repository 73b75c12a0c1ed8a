"""XD: Barlow Twins plus cross-distillation against the network's own frozen embedding (Meng et al. 2023, SACL-XD).

Source: Meng et al. 2023, section 3.2, Eq. 6 and 10, without slimming. L = alpha BT(z_A, z_B) + (1 - alpha) lam/2
sum_X sum_{i != j} C_ij(z_X, sg z_X)^2. Eq. 10 sums the two halves, Eq. 5 and the pseudo-code average them: averaged
here. The pseudo-code forgets the square, correlates different images and uses the A matrix twice; the equations hold.
The frozen pass over the same batch with the same batch statistics repeats the online embedding, so that z~ is the
detached z at no cost; only a network with dropout or drop-path runs a real second pass.

Cost: two matrix products more than Barlow Twins.
Use: the first choice for a small encoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor, nn

from wisp.data.loader import Batch
from wisp.encoders.frozen import frozen_pass, is_random
from wisp.encoders.heads import projector
from wisp.errors import WispError
from wisp.losses.decorrelation import barlow, off_diagonal, standardize
from wisp.losses.global_batch import gather
from wisp.methods.barlow_twins import SETTINGS as SETTINGS  # the paper trains XD as it trains Barlow Twins
from wisp.methods.method import Method, Surroundings


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of XD."""

    alpha: float = 0.9
    """Weight of the contrastive term, in [0, 1]; section 4.4, Fig. 4a (MobileNet-V1); 0.8 for ViT-Tiny."""
    lam: float = 0.0051
    """Weight of the off-diagonal terms; the author's scripts (0.005 printed for ImageNet)."""
    scale: float = 0.1
    """Factor on the loss; the author's scripts, CIFAR and ImageNet-100."""
    hidden: int = 2048
    """Hidden width of the projector; the author's CIFAR scripts (4096 printed for ImageNet)."""
    out: int = 2048
    """E, width of the embedding; the author's CIFAR scripts."""

    def __post_init__(self) -> None:
        """Checks the range of alpha."""
        if not 0 <= self.alpha <= 1:
            raise WispError(f"alpha is {self.alpha:g}; it weighs two terms and lies in [0, 1]")


@final
class XD(Method):
    """One dense network, two views, each decorrelated against its own frozen embedding."""

    def __init__(self, config: Config, encoder: nn.Module, surroundings: Surroundings) -> None:
        super().__init__()
        self.views = surroundings.plan
        self.config = config
        self.network = nn.Sequential(encoder, projector(surroundings.features, config.hidden, config.out))
        self.second_pass = is_random(self.network)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Two views [B,3,H,W] -> contrast and distillation over [N,E]."""
        c = self.config
        za, zb = (standardize(gather(self.network(view))) for view in batch.views)
        if self.second_pass:
            ta, tb = (standardize(gather(frozen_pass(self.network, view))) for view in batch.views)
        else:
            ta, tb = za.detach(), zb.detach()
        distill = (off_diagonal(za, ta) + off_diagonal(zb, tb)) / 2
        return {
            "contrast": c.scale * c.alpha * barlow(za, zb, c.lam),
            "distill": c.scale * (1 - c.alpha) * c.lam * distill,
        }

    def encoders(self) -> dict[str, nn.Module]:
        """The encoder that was trained."""
        return {"1x": self.network[0]}

    def head(self) -> nn.Module:
        """The projector."""
        return self.network[1]
