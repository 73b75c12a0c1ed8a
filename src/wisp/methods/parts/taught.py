"""The settings of a teacher, which all methods that have one share."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from wisp.data.loader import Batch
from wisp.encoders.teacher import Teacher
from wisp.errors import WispError, one_line
from wisp.methods.method import Surroundings
from wisp.methods.parts.ranges import positive


@dataclass(frozen=True, kw_only=True)
class TaughtOnline:
    """Which teacher; the `Config` of a method whose teacher learns beside the student, or is it, begins with these.

    One that learns has a head of the method's own, and the student's images at their resolution.
    """

    teacher: str | None = None
    """A timm name, a run folder of wisp, or a checkpoint file; --teacher for short. A name wins over a folder or file
    of that name, which is ./name."""
    teacher_model: str | None = None
    """Architecture of a checkpoint file, which does not say it itself: a timm name, or one of wisp's own. NAME.TAG is
    also the normalisation and, of a stock stem, the resolution of that set of timm's weights."""

    def __post_init__(self) -> None:
        """Checks that the settings belong together."""
        if self.teacher is None and self.teacher_model is not None:
            raise WispError("there is no teacher to which teacher_model could belong; name --teacher")


@dataclass(frozen=True, kw_only=True)
class Frozen(TaughtOnline):
    """Which frozen teacher, and at what size it looks."""

    teacher_size: int | None = None
    """Side in pixels of the images that it sees; that of its own training unless given."""

    def __post_init__(self) -> None:
        """Checks that the settings belong together."""
        super().__post_init__()
        if self.teacher is None and self.teacher_size is not None:
            raise WispError("there is no teacher to which teacher_size could belong; name --teacher")
        if self.teacher_size is not None and self.teacher_size < 1:
            raise WispError(f"teacher_size is {self.teacher_size}; it must be 1 or more")


@dataclass(frozen=True, kw_only=True)
class Tutored(Frozen):
    """Which frozen teacher of a task with labels; the `Config` of a task distillation begins with these."""

    teacher_classifier: Literal["own", "probed", "none"] | None = None
    """Who says what the teacher takes an image for: the classifier it was trained with, a linear probe of its features
    on the training images, or nobody; the first where it knows these classes, else the second, unless given."""
    cached: bool = False
    """Whether the teacher sees each image once, plain, and its features are kept on disk: no step waits for it, as by
    an option of CompRess' code. No paper here does; the crop that the student sees is not the one that is judged, and
    Beyer et al. 2022 found such a fixed teacher worse than one of the same views."""

    def __post_init__(self) -> None:
        """Checks that the settings belong together."""
        super().__post_init__()
        if self.asks_classes and self.teacher_classifier == "none":
            raise WispError(
                "nobody says what the teacher takes an image for, and the distillation of that has a weight; use "
                "--method.teacher-classifier probed, or, of au and crd, --method.logit-weight 0"
            )

    @property
    def asks_classes(self) -> bool:
        """Whether a step needs what the teacher takes an image for."""
        return True


@dataclass(frozen=True, kw_only=True)
class Taught(Frozen):
    """Which frozen teacher, and how it is used; a method's `Config` begins with these."""

    teacher_head: Literal["pretrained", "none"] = "pretrained"
    """Whether the projection head that it was trained with belongs to it; without one it shows its features."""
    extra: Literal["none", "at", "rkd", "kd"] = "none"
    """More of a frozen teacher's knowledge: where it looks, how images relate, outputs as logits; DisCo, Table 2."""
    extra_weight: float | None = None
    """Of that; 1000 for at (RepDistiller), 1 for rkd (DisCo's code) and for kd (ours) unless given."""

    def __post_init__(self) -> None:
        """Checks that the settings belong together."""
        super().__post_init__()
        if self.extra_weight is not None:
            positive(extra_weight=self.extra_weight)
            if self.extra == "none":
                raise WispError("there is nothing extra to which extra_weight could belong; name --method.extra")


def teacher_of(surroundings: Surroundings) -> Teacher:
    """The teacher of a method that has one."""
    assert surroundings.teacher is not None, "a session opens the teacher before it builds the method"
    return surroundings.teacher


def frozen_of(surroundings: Surroundings, *, cached: bool = False) -> Teacher:
    """The teacher of a method that shows it every view of its plan, or looks up its features.

    Args:
        surroundings: with the teacher.
        cached: whether they are looked up; its encoder is left out then, and takes no room on the device.

    Raises:
        WispError: it does not take one of the views.
    """
    teacher = teacher_of(surroundings)
    if cached:
        return teacher.absent()
    sides = set(surroundings.plan.pixels(surroundings.image_size))
    if len(sides) > 1:
        shadow = copy.deepcopy(teacher).to("meta")
        _refuse_views(teacher.origin, lambda view: shadow([view]), sides)
    return teacher


def seen(teacher: Teacher, batch: Batch) -> list[Tensor]:
    """A frozen teacher's features for every view, [B,D] each: of the view, or of the plain image where it is cached."""
    if batch.remembered is None:
        return teacher.looks(batch.views)
    return [batch.remembered] * len(batch.views)


def learner_of(surroundings: Surroundings) -> nn.Module:
    """The encoder of an online teacher, free to learn: the student's images [B,3,H,W] -> [B,D].

    Raises:
        WispError: it does not take every view of the plan.
    """
    teacher = teacher_of(surroundings)
    learner = teacher.learner()
    sides = set(surroundings.plan.pixels(surroundings.image_size))
    _refuse_views(teacher.origin, copy.deepcopy(learner).to("meta").eval(), sides)
    return learner


def _refuse_views(origin: str, network: Callable[[Tensor], object], sides: set[int]) -> None:
    for side in sorted(sides, reverse=True):
        remedy = "use a convolutional teacher, or another --plan"
        with one_line(f"the teacher {origin} does not take views of {side} px", remedy):
            network(torch.empty(1, 3, side, side, device="meta"))


def width_for(asked: int | None, teacher: Teacher) -> int:
    """E of a student's head: the teacher's, in whose space the two are compared.

    Args:
        asked: by the user, if at all.
        teacher: whose E it must be.

    Raises:
        WispError: another one is asked for.
    """
    if asked in (None, teacher.width):
        return teacher.width
    kind = "features" if teacher.head is None else "head"
    raise WispError(
        f"out is {asked}, and the {kind} of the teacher {teacher.origin} gives {teacher.width} numbers; leave out "
        "--method.out"
    )
