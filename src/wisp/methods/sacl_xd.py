"""SACL-XD: a small encoder sliced out of a K times wider host that shares its weights; distilled without a teacher.

Source: Meng et al. 2023, Eq. 5-10. View A passes the host, view B the slim network; the frozen passes swap the views.
The distillation pairs share their IMAGE (Eq. 5, slides, the author's earlier code); the pseudo-code pairs different
images, forgets the square of the off-diagonal and uses the A matrix twice: not followed. Eq. 8 and 9 print (1 -
C_ii), the pseudo-code calls a Barlow Twins loss: squared. Eq. 10 sums the halves of the distillation, Eq. 5 averages:
averaged. BatchNorm under slimming is not described: own statistics for the slim network. The paper's CIFAR probe may
read a masked host with live shortcuts; what is exported here is the true 1x network. Any `loss` but Barlow Twins is
ours: the branches go into the base's own loss, a slow copy is the host's. The distillation stays decorrelation, of
embeddings as the loss compares them, of BYOL the predictions; its weight: `TwoViews`.

Cost: the host's passes: one view at about K squared times the encoder's, frozen ones with pairs crossed, a slow copy's.
Use: when training time is cheap and every point of the small encoder counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from wisp.data.loader import Batch
from wisp.errors import WispError
from wisp.losses.decorrelation import inner_correlation, off_diagonal
from wisp.methods import barlow_twins, byol, moco_v2, simclr, vicreg
from wisp.methods.barlow_twins import SETTINGS as SETTINGS  # the paper trains all of its CNNs alike
from wisp.methods.method import Method, Settings, Surroundings
from wisp.methods.parts.bases import TwoViews, lend, settings_for
from wisp.methods.parts.branches import HostAndSlim, Selection
from wisp.methods.parts.cross_distillation import Distance, distance
from wisp.subnet.subnet import Subnet

_BASES: dict[str, tuple[Any, type[Any]]] = {
    "barlow_twins": (barlow_twins, barlow_twins.BarlowTwins),
    "vicreg": (vicreg, vicreg.VICReg),
    "simclr": (simclr, simclr.SimCLR),
    "moco_v2": (moco_v2, moco_v2.MocoV2),
    "byol": (byol, byol.BYOL),
}
_OF_THE_LOSS = ("lam", "scale", "temperature", "momentum", "queue", "splits", "hidden", "out")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of SACL-XD; what is None is the default of the loss."""

    loss: Literal["barlow_twins", "vicreg", "simclr", "moco_v2", "byol"] = "barlow_twins"
    """Between the branches, with that method's heads, slow copy and training; the paper has Barlow Twins."""
    width: float = 2.0
    """K, the host's width over the encoder's, at least 1; Table 5 has 2, 4 and 6 (ResNet-20), Table 2 has 1.5."""
    alpha: float = 0.9
    """Weight of the loss beside the distillation, in [0, 1]; Fig. 4a (MobileNet-V1, XD only)."""
    pairs: Literal["crossed", "own"] = "crossed"
    """Each embedding is decorrelated against the other branch's frozen one (Eq. 5), or against its own: no frozen
    pass."""
    distill: Distance = "decorrelation"
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
    lam: float | None = None
    """Weight of barlow_twins' off-diagonal terms; 0.0051, the author's scripts (0.005 printed for ImageNet)."""
    scale: float | None = None
    """Factor on the loss of barlow_twins; 0.1, the author's scripts, CIFAR and ImageNet-100."""
    temperature: float | None = None
    """Of simclr and moco_v2."""
    momentum: float | None = None
    """Of the slow copy of moco_v2 and byol."""
    queue: int | None = None
    """Keys in the queue of moco_v2."""
    splits: int | None = None
    """Groups that BatchNorm of moco_v2 normalises by themselves."""
    hidden: int | None = None
    """Hidden width of the heads; of barlow_twins 2048, the author's CIFAR scripts (4096 printed for ImageNet)."""
    out: int | None = None
    """E, width of the embedding; of barlow_twins 2048, the author's CIFAR scripts."""

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
        self.settings()

    @property
    def training(self) -> dict[str, Settings]:
        """How the loss is trained, small and large."""
        settings: dict[str, Settings] = _BASES[self.loss][0].SETTINGS
        return settings

    def settings(self) -> Any:
        """The settings of the loss.

        Raises:
            WispError: one is given that the loss does not have.
        """
        asked = {name: getattr(self, name) for name in _OF_THE_LOSS}
        if self.loss == "moco_v2":
            asked["symmetric"] = True  # one direction alone would not train the slim network
        return settings_for(_BASES[self.loss][0].Config, self.loss, asked, "loss")


@final
class SaclXd(Method):
    """A host and its slim network, two views, crossed distillation."""

    def __init__(self, config: Config, encoder: nn.Module, surroundings: Surroundings) -> None:
        super().__init__()
        self.views = surroundings.plan
        self.config = config
        self.base: TwoViews = _BASES[config.loss][1](config.settings(), encoder, surroundings)
        self.pair = HostAndSlim(
            self.base.network,
            width=config.width,
            image_size=surroundings.image_size,
            selection=config.selection,
            statistics=config.statistics,
        )
        lend(self.base, self.pair.host)
        self.synchronised = self.base.synchronised
        self.worth, self.lam = self.base.worth(), self.base.redundancy()

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Two views [B,3,H,W] -> the terms of the loss, and distillation over [N,E]."""
        c, pair, base, views = self.config, self.pair, self.base, batch.views
        targets = base.targets(views, progress)
        if progress < c.dense_warmup:
            z = base.embeddings((pair.host, pair.host), views)
            return self._terms([(z, targets)], [(each, each) for each in self._standard(z)])
        weights = pair.gather()
        slim = partial(pair.slim, weights=weights)
        z = base.embeddings((pair.host, slim), views)
        za, zb = self._standard(z)
        if c.both_orders:
            t = base.embeddings((slim, pair.host), views)
            ta, tb = self._standard(t)
            mates = {"crossed": [(za, ta), (zb, tb), (ta, za), (tb, zb)], "own": [(x, x) for x in (za, zb, ta, tb)]}
            return self._terms([(z, targets), (t[::-1], targets[::-1])], mates[c.pairs])
        if c.pairs == "own":
            return self._terms([(z, targets)], [(za, za), (zb, zb)])
        ta, tb = self._standard(base.embeddings((partial(pair.frozen, weights=weights), pair.frozen), views))
        return self._terms([(z, targets)], [(za, ta), (zb, tb)])

    def _standard(self, z: list[Tensor]) -> list[Tensor]:
        return [self.base.standard(each) for each in z]

    def _terms(
        self, online: list[tuple[list[Tensor], list[Tensor]]], pairs: list[tuple[Tensor, Tensor]]
    ) -> dict[str, Tensor]:
        """Means over the online couples and over the distillation pairs; the second of a pair gets no gradient."""
        c = self.config
        found = [self.base.terms(z, targets) for z, targets in online]
        share, rest = (1.0, c.gamma) if c.distill == "negative_log" else (c.alpha, 1 - c.alpha)
        terms = {
            name: weight * share * torch.stack([each[name][1] for each in found]).mean()
            for name, (weight, _) in found[0].items()
        }
        return terms | {"distill": self.worth * rest * distance(c.distill, pairs, self.lam)}

    def phases(self) -> tuple[float, ...]:
        """Dense start, if any, and slimmed training."""
        return (0.0, self.config.dense_warmup) if self.config.dense_warmup else (0.0,)

    def before_epoch(self, epoch: int) -> None:
        """Selects the slim network's channels."""
        self.pair.before_epoch(epoch)

    def after_step(self, progress: float) -> None:
        """The slow copy of the host follows, the queue takes the keys, where the loss has them."""
        self.base.after_step(progress)

    def chosen(self) -> dict[str, float]:
        """What the loss chose."""
        return self.base.chosen()

    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Re-estimates the slim network's statistics."""
        self.pair.calibrate(batches)

    def warnings(self) -> list[str]:
        """Those of the loss."""
        return self.base.warnings()

    def sharing(self) -> tuple[nn.Sequential, Subnet]:
        """The host and the slim network."""
        return self.pair.host, self.pair.slim

    def encoders(self) -> dict[str, nn.Module]:
        """The exported 1x encoder first, the dense host beside it."""
        return self.pair.encoders(self.config.width)

    def diagnose(self, batch: Batch) -> dict[str, float]:
        """Fig. 3a: inner correlation and lam-weighted inner decorrelation between the branches, mean of the views."""
        pair, views = self.pair, batch.views
        slim = partial(pair.frozen, weights=pair.gather())
        dense, slimmed = (self._standard(self.base.embeddings((net, net), views)) for net in (pair.frozen, slim))
        found = {"inner_correlation": 0.0, "inner_decorrelation": 0.0}
        for mates in zip(dense, slimmed, strict=True):
            found["inner_correlation"] += float(inner_correlation(*mates)) / len(views)
            found["inner_decorrelation"] += self.lam * float(off_diagonal(*mates)) / len(views)
        return found
