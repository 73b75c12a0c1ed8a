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

import torch
from torch import Tensor, nn

from wisp.encoders.teacher import Teacher
from wisp.errors import WispError
from wisp.losses.contrastive import unit
from wisp.losses.global_batch import average, gather
from wisp.losses.logits import knowledge_distillation
from wisp.losses.relation import rkd_angle, rkd_distance
from wisp.methods.parts.attending import WEIGHT, Attending, Maps
from wisp.methods.parts.taught import Taught

WEIGHTS = {"at": WEIGHT, "rkd": 1.0, "kd": 1.0}
TEMPERATURE = 4.0


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
        self.attending: Attending | None = None
        if self.kind == "none":
            return
        self.weight = WEIGHTS[self.kind] if config.extra_weight is None else config.extra_weight
        if self.kind == "at":
            self.attending = Attending(encoder, teacher, image_size=image_size, instead="--method.extra rkd")
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
        if self.attending is None:
            yield Maps([], [])
            return
        with self.attending.watching(encoder, teacher) as maps:
            yield maps

    def terms(self, ours: Sequence[Tensor], theirs: Sequence[Tensor], maps: Maps) -> dict[str, Tensor]:
        """The weighted term over the global batch, mean over the views; none where nothing extra is asked.

        Args:
            ours: the student's outputs of each view, [B,E], not normalised.
            theirs: the teacher's, [B,E'].
            maps: of the passes that made them.
        """
        if self.kind == "none":
            return {}
        if self.attending is not None:
            each = self.attending.gaps(maps, len(ours[0]))
        elif self.kind == "rkd":
            pairs = [(gather(unit(s)), gather(unit(t))) for s, t in zip(ours, theirs, strict=True)]
            each = [rkd_distance(s, t) + rkd_angle(s, t) for s, t in pairs]
        else:
            each = [knowledge_distillation(s, t, TEMPERATURE) for s, t in zip(ours, theirs, strict=True)]
        value = torch.stack(each).mean()
        # Relations are the whole batch's on every process; the others are means over this process's images.
        return {self.kind: self.weight * (value if self.kind == "rkd" else average(value))}
