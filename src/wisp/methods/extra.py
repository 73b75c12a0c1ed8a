"""Extra knowledge of a frozen teacher, beside what a method takes from it: attention, relations, or outputs as logits.

Source: Gao et al. 2022 (DisCo), section 4.4 and the lower rows of Table 2, which add attention transfer (at),
relational distillation (rkd) and classical distillation (kd). The released code has a script for rkd only, with weight
1 for the distances and 1 for the angles of normalised embeddings; it compares the first view's within one device's
batch, here every view's within the global batch. Nothing tells how at and kd were run: at is RepDistiller's, weight
1000, added up over the stages. The paper keeps kd for fine-tuning with labels; without labels, it is a reading of ours:
the heads' outputs, not normalised, stand for logits, with RepDistiller's temperature 4, squared in front.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wisp.encoders.maps import Stages, paired
from wisp.encoders.teacher import Teacher
from wisp.errors import WispError
from wisp.losses.contrastive import unit
from wisp.losses.global_batch import average, gather
from wisp.losses.logits import knowledge_distillation
from wisp.losses.relation import attention, rkd_angle, rkd_distance
from wisp.methods.taught import Taught

WEIGHTS = {"at": 1000.0, "rkd": 1.0, "kd": 1.0}
TEMPERATURE = 4.0


@dataclass(frozen=True)
class Maps:
    """Feature maps of every pass while somebody watched, finest first; no pass at all where attention is not asked."""

    student: list[list[Tensor]]
    teacher: list[list[Tensor]]


class Extra:
    """What a method adds to its terms: `watching` around its passes, then `terms`.

    Holds neither network: they are arguments.
    """

    def __init__(self, config: Taught, encoder: nn.Module, teacher: Teacher, *, image_size: int, out: int) -> None:
        """Looks for what is needed, once.

        Args:
            config: of the method.
            encoder: the student's, [B,3,H,W] -> [B,D].
            teacher: whose views are the student's.
            image_size: of the student.
            out: E, width of the student's outputs that `terms` will get.

        Raises:
            WispError: one of the networks has no feature maps, or outputs that have to be alike are not.
        """
        self.kind = config.extra
        self.stages: tuple[Stages, Stages] | None = None
        if self.kind == "none":
            return
        self.weight = WEIGHTS[self.kind] if config.extra_weight is None else config.extra_weight
        if self.kind == "at":
            self.stages = (Stages(encoder, image_size), Stages(teacher.encoder, teacher.own.image_size))
        if self.kind == "kd" and out != teacher.width:
            raise WispError(
                f"the student gives {out} numbers and the teacher {teacher.origin} {teacher.width}, which knowledge "
                "distillation (kd) compares one by one; use --method.extra rkd"
            )

    @contextmanager
    def watching(self, encoder: nn.Module, teacher: Teacher) -> Iterator[Maps]:
        """Inside, the passes of both through the same views, in the same order, leave their maps where they are needed.

        A pass may take a part of a view, or several views; views of one side stand next to each other in the plan.
        """
        if self.stages is None:
            yield Maps([], [])
            return
        ours, theirs = self.stages
        with ours.watching(encoder) as student, theirs.watching(teacher.encoder) as shown:
            yield Maps(student, shown)

    def terms(self, ours: Sequence[Tensor], theirs: Sequence[Tensor], maps: Maps) -> dict[str, Tensor]:
        """The weighted term over the global batch, mean over the views; none where nothing extra is asked.

        Args:
            ours: the student's outputs of each view, [B,E], not normalised.
            theirs: the teacher's, [B,E'].
            maps: of the passes that made them.
        """
        if self.kind == "none":
            return {}
        if self.kind == "at":
            views = zip(_by_view(maps.student, len(ours[0])), _by_view(maps.teacher, len(ours[0])), strict=True)
            each = [torch.stack([attention(s, t) for s, t in paired(*view)]).sum() for view in views]
        elif self.kind == "rkd":
            pairs = [(gather(unit(s)), gather(unit(t))) for s, t in zip(ours, theirs, strict=True)]
            each = [rkd_distance(s, t) + rkd_angle(s, t) for s, t in pairs]
        else:
            each = [knowledge_distillation(s, t, TEMPERATURE) for s, t in zip(ours, theirs, strict=True)]
        value = torch.stack(each).mean()
        # Relations are the whole batch's on every process; the others are means over this process's images.
        return {self.kind: self.weight * (value if self.kind == "rkd" else average(value))}


def _by_view(passes: Sequence[Sequence[Tensor]], rows: int) -> list[list[Tensor]]:
    """The maps of one view of `rows` images after the other, of passes that took parts of a view or several views."""
    found: list[list[Tensor]] = []
    parts: list[Sequence[Tensor]] = []
    for maps in passes:
        parts.append(maps)
        if sum(len(part[0]) for part in parts) < rows:
            continue
        whole = [torch.cat(pieces) for pieces in zip(*parts, strict=True)]
        found += [list(view) for view in zip(*(each.split(rows) for each in whole), strict=True)]
        parts = []
    return found
