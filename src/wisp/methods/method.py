"""The contract: what one step computes.

Shape legend of all methods: B batch, V views, D features, E embedding, K queue or prototypes, N world batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from wisp.data.loader import Batch
from wisp.data.views import ViewPlan
from wisp.encoders.teacher import Teacher
from wisp.subnet.subnet import Subnet


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a paper trains a method; what a user leaves open is taken from here, with its source."""

    plan: str
    """Name of the view plan."""
    epochs: int
    batch_size: int
    optimizer: Literal["lars", "sgd", "adamw"]
    lr: float
    """Learning rate at `batch_size`."""
    weight_decay: float
    warmup_epochs: int
    """Epochs with a linearly growing learning rate; a tenth of a training at most."""
    trust: float = 0.001
    """LARS: trust coefficient."""
    clip: bool = False
    """LARS: whether the trust ratio is held at or below 1."""
    plain_lr: float = 1.0
    """LARS: factor on the learning rate of the one-dimensional parameters, which it does not scale."""
    lr_scale: Literal["linear", "none"] = "none"
    """Whether another batch size scales the learning rate."""
    source: str


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a method may know of its run when it is built."""

    features: int
    """D of the encoder."""
    image_size: int
    images: int
    """Training images."""
    batch_size: int
    """Global batch."""
    plan: ViewPlan
    classes: int | None = None
    """Number of classes of the training images; None where they have no labels."""
    teacher: Teacher | None = None
    """That of a method that is taught."""


class Method(nn.Module, ABC):
    """What one step computes. Owns its modules; knows no trainer, optimizer or logger.

    A method file holds a frozen `Config`, `SETTINGS: dict["small" | "large", Settings]`, and one final subclass that
    is built as `Method(config, encoder, surroundings)`. A `Config` on whose values the paper's training depends has a
    property `training` of the same type, which stands for `SETTINGS`. `forward` changes nothing but BatchNorm
    statistics; queues, centres and slow copies move in `after_step`, channels are selected in `before_epoch`.
    """

    needs_labels: ClassVar[bool] = False
    """True only for task distillation and supervised baselines."""
    view_count: ClassVar[tuple[int, int | None]] = (2, 2)
    """Least and most views that a step takes; None where there is no most."""
    synchronised: bool = True
    """Whether BatchNorm sees the batches of all devices; False where a device's own statistics are part of the
    method."""
    taught: ClassVar[Literal["no", "frozen", "online", "adopted"]] = "no"
    """Whether a step needs a teacher: a frozen one, or one that learns beside the student; or the encoder is adopted,
    and is that teacher: of its architecture, with its normalisation and, unless the user names another, at its
    resolution. Its `Config` is a `TaughtOnline` then."""
    constant_lr: ClassVar[tuple[str, ...]] = ()
    """Modules whose learning rate stays at its peak while the others' follows the schedule."""
    neighbours: int = 0
    """A step needs beside each image's views those of one of its so many nearest others, in the features of a frozen
    teacher; 0 where it needs none."""
    remembers: int = 0
    """A step needs so many numbers of each image: what the frozen teacher makes of it, plain, once for the whole
    training; 0 where it needs none. They have any length, and are zeros where an image cannot be read."""
    views: ViewPlan

    @abstractmethod
    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Weighted terms of the loss over the global batch, each a scalar; the loss is their sum.

        Args:
            batch: views [B,3,H,W] each, and as many of a neighbour where the method needs one.
            progress: fraction of the training that is done, in [0, 1].
        """

    @abstractmethod
    def encoders(self) -> dict[str, nn.Module]:
        """What is evaluated and exported, most important first; each maps [B,3,H,W] to [B,D]."""

    def classifiers(self) -> dict[str, nn.Linear]:
        """What was trained on top of an encoder to tell the classes apart, [B,D] -> [B,C], by the encoder's name."""
        return {}

    def head(self) -> nn.Module | None:
        """What follows the first encoder, [B,D] -> [B,E], for those who will teach with it; None where nothing does."""
        return None

    def sharing(self) -> tuple[nn.Sequential, Subnet] | None:
        """The network that is trained, its encoder first, and the smallest one inside it; None where there is none."""
        return None

    def chosen(self) -> dict[str, float]:
        """What the settings left open, as it is for this run: printed, and stored with the result."""
        return {}

    def warnings(self) -> list[str]:
        """What in the settings hardly suits the data, a line each with its remedy; no reason to refuse a training."""
        return []

    def phases(self) -> tuple[float, ...]:
        """Progress at which each phase begins, the first at 0; phases differ in active parameters or in cost."""
        return (0.0,)

    def lr_factor(self, progress: float) -> float:
        """Factor on the scheduled learning rate."""
        return 1.0

    def before_epoch(self, epoch: int) -> None:
        """Called before the first step of every epoch, and not again when an epoch is resumed."""

    def after_step(self, progress: float) -> None:
        """Called after every optimizer step."""

    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Called before every evaluation and export: re-estimates statistics that training does not keep."""

    def diagnose(self, batch: Batch) -> dict[str, float]:
        """Numbers for the journal, once an epoch; changes nothing."""
        return {}
