"""SACL-XD: a small encoder sliced out of a K times wider host that shares its weights; distilled without a teacher.

Source: Meng et al. 2023, Eq. 5-10. View A passes the host, view B the slim network; the frozen passes swap the views.
The distillation pairs share their IMAGE (Eq. 5, slides, the author's earlier code); the pseudo-code pairs different
images, forgets the square of the off-diagonal and uses the A matrix twice: not followed. Eq. 8 and 9 print (1 -
C_ii), the pseudo-code calls a Barlow Twins loss: squared. Eq. 10 sums the halves of the distillation, Eq. 5 averages:
averaged. BatchNorm under slimming is not described: own statistics for the slim network. The paper's CIFAR probe may
read a masked host with live shortcuts; what is exported here is the true 1x network.

Cost: the host's passes: one view at about K squared times the encoder's, and frozen passes with pairs crossed.
Use: when training time is cheap and every point of the small encoder counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor, nn

from wisp.data.loader import Batch
from wisp.encoders.heads import projector
from wisp.errors import WispError
from wisp.losses.decorrelation import barlow, inner_correlation, negative_log, off_diagonal, standardize
from wisp.losses.global_batch import gather
from wisp.methods.barlow_twins import SETTINGS as SETTINGS  # the paper trains all of its CNNs alike
from wisp.methods.branches import HostAndSlim, Selection
from wisp.methods.method import Method, Surroundings
from wisp.subnet.subnet import Subnet


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of SACL-XD."""

    width: float = 2.0
    """K, the host's width over the encoder's, at least 1; Table 5 has 2, 4 and 6 (ResNet-20), Table 2 has 1.5."""
    alpha: float = 0.9
    """Weight of the contrastive term, in [0, 1]; Fig. 4a (MobileNet-V1, XD only)."""
    pairs: Literal["crossed", "own"] = "crossed"
    """Each embedding is decorrelated against the other branch's frozen one (Eq. 5), or against its own: no frozen
    pass."""
    distill: Literal["decorrelation", "inner_correlation", "negative_log"] = "decorrelation"
    """Eq. 10; the diagonal alone (Fig. 3b); Eq. 12 with `gamma` in the place of 1 - alpha."""
    gamma: float = 1e-3
    """Weight of the negative-log variant; A.2."""
    selection: Selection = "epoch"
    """When the slim network's channels are chosen; section 3.1."""
    statistics: Literal["own", "shared"] = "own"
    """Whose BatchNorm statistics the slim network is evaluated with; not stated in the paper."""
    both_orders: bool = False
    """Whether the swapped passes get a gradient too; the paper freezes them."""
    dense_warmup: float = 0.0
    """Fraction of the training in which both views pass the host; the paper slims from the start."""
    lam: float = 0.0051
    """Weight of the off-diagonal terms; the author's scripts (0.005 printed for ImageNet)."""
    scale: float = 0.1
    """Factor on the loss; the author's scripts, CIFAR and ImageNet-100."""
    hidden: int = 2048
    """Hidden width of the projector; the author's CIFAR scripts (4096 printed for ImageNet)."""
    out: int = 2048
    """E, width of the embedding; the author's CIFAR scripts."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        if not 0 <= self.alpha <= 1:
            raise WispError(f"alpha is {self.alpha:g}; it weighs two terms and lies in [0, 1]")
        if not (self.width >= 1 and math.isfinite(self.width)):
            raise WispError(f"width is {self.width:g}; the host is K >= 1 times as wide as the encoder")
        if not 0 <= self.dense_warmup < 1:
            raise WispError(f"dense_warmup is {self.dense_warmup:g}; it is a fraction of the training, in [0, 1)")
        if self.dense_warmup and self.selection == "once":
            raise WispError("selection once would choose random filters before the dense start; use epoch or prefix")
        if self.pairs == "own" and self.distill == "inner_correlation":
            raise WispError("an embedding always correlates with itself; use pairs crossed with inner_correlation")


@final
class SaclXd(Method):
    """A host and its slim network, two views, crossed distillation."""

    def __init__(self, config: Config, encoder: nn.Module, surroundings: Surroundings) -> None:
        super().__init__()
        self.views = surroundings.plan
        self.config = config
        self.pair = HostAndSlim(
            encoder,
            projector(surroundings.features, config.hidden, config.out),
            width=config.width,
            image_size=surroundings.image_size,
            selection=config.selection,
            statistics=config.statistics,
        )

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Two views [B,3,H,W] -> contrast and distillation over [N,E]."""
        c, pair = self.config, self.pair
        xa, xb = batch.views
        if progress < c.dense_warmup:
            za, zb = _embed(pair.host(xa)), _embed(pair.host(xb))
            return self._terms([(za, zb)], [(za, za), (zb, zb)])
        weights = pair.gather()
        za, zb = _embed(pair.host(xa)), _embed(pair.slim(xb, weights))
        if c.both_orders:
            ta, tb = _embed(pair.slim(xa, weights)), _embed(pair.host(xb))
            mates = {"crossed": [(za, ta), (zb, tb), (ta, za), (tb, zb)], "own": [(z, z) for z in (za, zb, ta, tb)]}
            return self._terms([(za, zb), (tb, ta)], mates[c.pairs])
        if c.pairs == "own":
            return self._terms([(za, zb)], [(za, za), (zb, zb)])
        ta, tb = _embed(pair.frozen(xa, weights)), _embed(pair.frozen(xb))
        return self._terms([(za, zb)], [(za, ta), (zb, tb)])

    def _terms(self, online: list[tuple[Tensor, Tensor]], pairs: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        """Means over the online couples and over the distillation pairs; the second of a pair gets no gradient."""
        c = self.config
        contrast = torch.stack([barlow(a, b, c.lam) for a, b in online]).mean()
        if c.distill == "negative_log":
            n = pairs[0][0].shape[0] ** 0.5  # back to unit variance: a softmax is not scale-free
            distill = torch.stack([negative_log(z * n, target * n) for z, target in pairs]).mean()
            return {"contrast": c.scale * contrast, "distill": c.scale * c.gamma * distill}
        if c.distill == "inner_correlation":
            distill = torch.stack([inner_correlation(z, target.detach()) for z, target in pairs]).mean()
        else:
            distill = c.lam * torch.stack([off_diagonal(z, target.detach()) for z, target in pairs]).mean()
        return {"contrast": c.scale * c.alpha * contrast, "distill": c.scale * (1 - c.alpha) * distill}

    def phases(self) -> tuple[float, ...]:
        """Dense start, if any, and slimmed training."""
        return (0.0, self.config.dense_warmup) if self.config.dense_warmup else (0.0,)

    def before_epoch(self, epoch: int) -> None:
        """Selects the slim network's channels."""
        self.pair.before_epoch(epoch)

    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Re-estimates the slim network's statistics."""
        self.pair.calibrate(batches)

    def sharing(self) -> tuple[nn.Module, Subnet] | None:
        """The host and the slim network."""
        return (self.pair.host, self.pair.slim) if self.config.width > 1 else None

    def encoders(self) -> dict[str, nn.Module]:
        """The exported 1x encoder first, the dense host beside it."""
        return self.pair.encoders(self.config.width)

    def diagnose(self, batch: Batch) -> dict[str, float]:
        """Fig. 3a: inner correlation and lam-weighted inner decorrelation between the branches, mean of the views."""
        weights = self.pair.gather()
        found = {"inner_correlation": 0.0, "inner_decorrelation": 0.0}
        for view in batch.views:
            dense, slim = _embed(self.pair.frozen(view)), _embed(self.pair.frozen(view, weights))
            found["inner_correlation"] += float(inner_correlation(dense, slim)) / len(batch.views)
            found["inner_decorrelation"] += self.config.lam * float(off_diagonal(dense, slim)) / len(batch.views)
        return found


def _embed(z: Tensor) -> Tensor:
    """Embeddings of the global batch, standardised: [B,E] -> [N,E]."""
    return standardize(gather(z))
