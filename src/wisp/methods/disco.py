"""DisCo: a contrastive method, and the student's embedding of every view is drawn to its teacher's.

Source: Gao et al. 2022, Eq. 1 and 2, and the released code. The paper does not say that embeddings are normalised, the
code does so: kept, a distance is 2 - 2 cos. The paper adds both losses with weight 1; the code sums the distance over
the 32 images of one of 8 devices and averages the contrast, which weighs the distance of an image with 32. Its numbers
are the code's, and so is the default. The code's teacher normalises by the batch and drifts; here it is frozen, as in
the paper. Over SwAV the code takes the mean over images, crops and dimensions, halved with SwAV's own loss: 1/512 of
Eq. 1, to a teacher that it does not normalise. No weight stands for that where both have length 1: there the default is
the paper's. The MoCo v2 below the distillation is wisp's, which momentum 0.999 makes the code's. DisCo trains on no
small images; over MoCo v2 the values there are those of its ImageNet training, but for a faster slow copy, and MoCo
v2's views for CIFAR. Of Table 2 the rows that add a knowledge to DisCo can be run, not those of one knowledge alone.

Cost: the base's, one more pass with a gradient over MoCo v2, and one pass of the teacher through every view.
Use: a good teacher is at hand, and its student is small.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn

from wisp.data.loader import Batch
from wisp.errors import WispError
from wisp.losses.alignment import alignment
from wisp.losses.global_batch import average
from wisp.methods import moco_v2, swav
from wisp.methods.method import Method, Settings, Surroundings
from wisp.methods.moco_v2 import trained_as_moco
from wisp.methods.parts.bases import settings_for
from wisp.methods.parts.extra import Extra
from wisp.methods.parts.ranges import positive
from wisp.methods.parts.taught import Taught, frozen_of, width_for

_BASES: dict[str, tuple[type[Any], type[moco_v2.MocoV2 | swav.SwAV]]] = {
    "moco_v2": (moco_v2.Config, moco_v2.MocoV2),
    "swav": (swav.Config, swav.SwAV),
}
_OF_SWAV = ("prototypes", "epsilon", "queue_start", "frozen")
_WEIGHTS = {"moco_v2": 32.0, "swav": 1.0}


@dataclass(frozen=True, kw_only=True)
class Config(Taught):
    """Settings of DisCo; what is None is the base's own default."""

    base: Literal["moco_v2", "swav"] = "moco_v2"
    """Whose contrast, head and slow copy or prototypes; sections 3.4 and 4.8."""
    distill_weight: float | None = None
    """Of an image's squared distance to the teacher, both views added up; 32 over MoCo v2 (the released code, batch 256
    on 8 devices; the paper says 1), 1 over SwAV (the paper), unless given."""
    hidden: int = 2048
    """Hidden width of the student's head, whatever its features; section 4.1. Narrower is the distilling bottleneck."""
    out: int | None = None
    """E, width of the embedding; the teacher's, and no other."""
    temperature: float | None = None
    """Of the base."""
    momentum: float | None = None
    """Of the slow copy of moco_v2; 0.99 unless given. The released 0.999 leaves it half random after 700 steps."""
    queue: int | None = None
    """Keys in the queue of moco_v2, or embeddings in each of swav's."""
    splits: int | None = None
    """Groups that BatchNorm of moco_v2 normalises by themselves."""
    prototypes: int | None = None
    """Of swav."""
    epsilon: float | None = None
    """Of swav: sharpness of its assignments."""
    queue_start: float | None = None
    """Of swav: fraction of the training before its queues are used."""
    frozen: float | None = None
    """Of swav: fraction of the training with fixed prototypes."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        super().__post_init__()
        if self.distill_weight is not None:
            positive(distill_weight=self.distill_weight)
        self.settings(self.out)

    @property
    def training(self) -> dict[str, Settings]:
        """How the base is trained, small and large."""
        return SETTINGS if self.base == "moco_v2" else _OVER_SWAV

    def settings(self, out: int | None) -> Any:
        """The settings of the base, for an embedding of width `out`.

        Raises:
            WispError: one is given that the base does not have.
        """
        options = ("temperature", "momentum", "queue", "splits", "hidden", *_OF_SWAV)
        asked = {name: getattr(self, name) for name in options} | {"out": out}
        return settings_for(_BASES[self.base][0], self.base, asked, "base")


SETTINGS = trained_as_moco("Gao et al. 2022, section 4.1, and its Reproduction.md")
_OVER_SWAV = {
    "small": swav.SETTINGS["small"],
    "large": dataclasses.replace(
        swav.SETTINGS["large"], batch_size=512, source="Gao et al. 2022, Reproduction.md, Table 5: 0.6 at 8 x 64"
    ),
}


@final
class DisCo(Method):
    """A base, and a teacher of its network."""

    taught: ClassVar[Literal["no", "frozen", "online"]] = "frozen"
    view_count: ClassVar[tuple[int, int | None]] = (2, None)

    def __init__(self, config: Config, encoder: nn.Module, surroundings: Surroundings) -> None:
        super().__init__()
        self.views = surroundings.plan
        self.teacher = frozen_of(surroundings)
        out = width_for(config.out, self.teacher)
        kind = _BASES[config.base][1]
        if (most := kind.view_count[1]) is not None and len(self.views.views) > most:
            raise WispError(
                f"disco over {config.base} takes {most} views, and --plan {self.views.name} has "
                f"{len(self.views.views)}; use another one, or --method.base swav"
            )
        self.base = kind(config.settings(out), encoder, surroundings)
        self.synchronised = self.base.synchronised
        self.weight = config.distill_weight or _WEIGHTS[config.base]
        self.extra = Extra(config, encoder, self.teacher, image_size=surroundings.image_size, out=out)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """V views [B,3,H,W] -> the base's loss, the distance of all views to the teacher's, and what is extra."""
        with self.extra.watching(self.base.network[0], self.teacher) as maps:
            theirs = self.teacher(batch.views)
            ours = self.base.outputs(batch.views)
        apart = torch.stack([alignment(s, t) for s, t in zip(ours, theirs, strict=True)])
        return {
            **self.base.compared(ours, batch.views, progress),
            "distill": self.weight * average(2 * apart.mean()),  # a sum over two views, whatever their number
            **self.extra.terms(ours, theirs, maps),
        }

    def phases(self) -> tuple[float, ...]:
        """Those of the base."""
        return self.base.phases()

    def after_step(self, progress: float) -> None:
        """What the base remembers moves."""
        self.base.after_step(progress)

    def chosen(self) -> dict[str, float]:
        """What the base chose, and the weight of the distance."""
        return {**self.base.chosen(), "distill_weight": self.weight}

    def warnings(self) -> list[str]:
        """Those of the base."""
        return self.base.warnings()

    def encoders(self) -> dict[str, nn.Module]:
        """The student."""
        return self.base.encoders()

    def head(self) -> nn.Module:
        """Into the teacher's space."""
        return self.base.head()
