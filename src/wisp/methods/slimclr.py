"""SlimCLR: one contrastive training gives a network that runs at several widths.

Source: Zhao et al. 2022, Eq. 1-7. Every width's queries meet the full-width slow network's keys; a narrow network also
follows the full one's similarities. Eq. 5 has no factor, the released code multiplies the distillation by the squared
temperature: kept, for its numbers are the paper's. Half of the training the full network learns alone, with weight 1.
The released scripts then set the learning rate to 1e-4, the paper changes it for MoCo v3 only (1.2 to 3.2): `lr_jump`
is 1 unless set. The contrast is that of `base`, taken as it is; of SimCLR, each width compares its own two views.

Cost: the base's, and after the slow start one more pass with a gradient at every narrow width.
Use: several devices: one training, one encoder for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from wisp.data.loader import Batch
from wisp.errors import WispError
from wisp.losses.contrastive import Contrast
from wisp.losses.global_batch import average
from wisp.losses.logits import adaptive_temperature, decoupled, softened, squared_logits, towards
from wisp.methods import moco_v2, moco_v3, simclr
from wisp.methods.method import Method, Settings, Surroundings
from wisp.methods.parts.bases import settings_for
from wisp.methods.parts.ranges import positive
from wisp.methods.parts.widths import Reweighting, Widths, check_widths, weights_of
from wisp.subnet.subnet import Subnet

Contrastive = moco_v2.MocoV2 | moco_v3.MocoV3 | simclr.SimCLR
_BASES: dict[str, tuple[type[Any], type[Contrastive]]] = {
    "moco_v2": (moco_v2.Config, moco_v2.MocoV2),
    "moco_v3": (moco_v3.Config, moco_v3.MocoV3),
    "simclr": (simclr.Config, simclr.SimCLR),
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of SlimCLR; what is None is the base's own default."""

    base: Literal["moco_v2", "moco_v3", "simclr"] = "moco_v2"
    """Whose contrast, heads and slow copy; the paper has MoCo v2 and MoCo v3, its code SimCLR too."""
    widths: tuple[float, ...] = (1.0, 0.75, 0.5, 0.25)
    """1 and the narrow ones; section 4."""
    slow_start: float = 0.5
    """Fraction of the training in which the full network learns alone; Table 3b and 3f."""
    lr_jump: float = 1.0
    """Factor on the learning rate from then on; 8/3 for MoCo v3 in section 4."""
    distill: Literal["kd", "mse", "atkd", "dkd", "none"] = "kd"
    """How narrow networks follow the full one; Table 3c."""
    distill_temperature: float | None = None
    """Of the distillation, over plain cosines: 5 (Table 3d), of MoCo v3 1 (section 4), unless given."""
    reweighting: Reweighting = "sum"
    """Weights of the networks' losses; Eq. 6 and Table 3e."""
    temperature: float | None = None
    """Of the contrast."""
    momentum: float | None = None
    """Of the slow copy."""
    queue: int | None = None
    """Keys in the queue of moco_v2."""
    splits: int | None = None
    """Groups that BatchNorm of moco_v2 normalises by themselves."""
    hidden: int | None = None
    """Hidden width of the heads at width 1."""
    out: int | None = None
    """E, width of the embedding."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        check_widths(self.widths)
        positive(lr_jump=self.lr_jump)
        if self.distill_temperature is not None:
            positive(distill_temperature=self.distill_temperature)
        if not 0 <= self.slow_start < 1:
            raise WispError(
                f"slow_start is {self.slow_start:g}; it is a fraction of the training, in [0, 1): 0.5 is half"
            )
        self.settings()

    @property
    def training(self) -> dict[str, Settings]:
        """How the base is trained, small and large; the paper has a setting of its own for each base on ImageNet."""
        if self.base == "simclr":
            return simclr.SETTINGS
        small = (moco_v2 if self.base == "moco_v2" else moco_v3).SETTINGS["small"]
        return {"small": small, "large": SETTINGS["large"] if self.base == "moco_v2" else _LARGE_V3}

    def settings(self) -> Any:
        """The settings of the base.

        Raises:
            WispError: one is given that the base does not have.
        """
        options = ("temperature", "momentum", "queue", "splits", "hidden", "out")
        asked = {name: getattr(self, name) for name in options}
        return settings_for(_BASES[self.base][0], self.base, asked, "base")


SETTINGS = {
    "small": moco_v2.SETTINGS["small"],
    "large": Settings(
        plan="mocov2",
        epochs=200,
        batch_size=1024,
        optimizer="sgd",
        lr=0.2,
        weight_decay=1e-4,
        warmup_epochs=10,
        lr_scale="linear",
        source="Zhao et al. 2022, section 4, SlimCLR-MoCov2",
    ),
}

_LARGE_V3 = Settings(
    plan="mocov3",
    epochs=300,
    batch_size=1024,
    optimizer="lars",
    lr=1.2,
    weight_decay=1e-6,
    warmup_epochs=10,
    lr_scale="linear",
    source="Zhao et al. 2022, section 4, SlimCLR-MoCov3 (its learning rate jumps: --method.lr-jump 2.667)",
)


@final
class SlimCLR(Method):
    """A contrastive method, and narrow versions of its network."""

    def __init__(self, config: Config, encoder: nn.Module, surroundings: Surroundings) -> None:
        super().__init__()
        self.views = surroundings.plan
        self.config = config
        self.base = _BASES[config.base][1](config.settings(), encoder, surroundings)
        self.synchronised = self.base.synchronised
        self.narrow = Widths(self.base.network, config.widths, surroundings.image_size)
        self.weights = weights_of(config.widths, config.reweighting)
        self.temperature = config.distill_temperature or (1.0 if config.base == "moco_v3" else 5.0)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Two views [B,3,H,W] -> the full network's contrast, then also contrast and distillation of the others."""
        base, c = self.base, self.config
        targets = base.targets(batch.views, progress)
        full = base.contrasts(base.embeddings((base.network, base.network), batch.views), targets)
        if progress < c.slow_start or len(c.widths) == 1:
            return {"contrast": base.loss(full)}
        contrast, distill = [], []
        distances = [] if c.distill == "none" else [self._distance_to(teacher) for teacher in full]
        for weight, embed in zip(self.weights[1:], self.narrow.embedders(base.network), strict=True):
            own = base.contrasts(base.embeddings((embed, embed), batch.views), targets)
            contrast.append(weight * base.loss(own))
            if distances:
                apart = [distance(each) for distance, each in zip(distances, own, strict=True)]
                distill.append(weight * average(torch.stack(apart).sum()))
        terms = {"contrast": self.weights[0] * base.loss(full), "narrow": torch.stack(contrast).sum()}
        if distill:
            terms["narrow"] = terms["narrow"] / 2
            terms["distill"] = torch.stack(distill).sum() / 2
        return terms

    def _distance_to(self, teacher: Contrast) -> Callable[[Contrast], Tensor]:
        """How far a narrow network's similarities are from the full one's: mean over the rows of this process."""
        t = self.temperature
        logits = teacher.cosines
        if self.config.distill == "mse":
            return lambda own: squared_logits(own.cosines, logits)
        if self.config.distill == "atkd":
            return lambda own: adaptive_temperature(own.cosines, logits)
        if self.config.distill == "dkd":
            return lambda own: decoupled(own.cosines, logits, own.positives, t)
        target = softened(logits, t)  # [R,C] with C the whole queue: once, not once a width
        return lambda own: towards(own.cosines, target, t)

    def phases(self) -> tuple[float, ...]:
        """The full network alone, and all of them."""
        return (0.0, self.config.slow_start) if self.config.slow_start else (0.0,)

    def lr_factor(self, progress: float) -> float:
        """The jump after the slow start."""
        return self.config.lr_jump if progress >= self.config.slow_start else 1.0

    def after_step(self, progress: float) -> None:
        """The slow copy follows, the queue takes the keys."""
        self.base.after_step(progress)

    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Re-estimates the narrow networks' statistics: they are of old weights where these have just begun."""
        self.narrow.calibrate(self.base.network, (view for batch in batches for view in batch.views))

    def sharing(self) -> tuple[nn.Sequential, Subnet] | None:
        """The full network and the narrowest."""
        return self.narrow.sharing(self.base.network)

    def chosen(self) -> dict[str, float]:
        """What the base chose."""
        return self.base.chosen()

    def warnings(self) -> list[str]:
        """Those of the base."""
        return self.base.warnings()

    def encoders(self) -> dict[str, nn.Module]:
        """The encoder at every width, the full one first."""
        return self.narrow.part(self.base.network, 0)
