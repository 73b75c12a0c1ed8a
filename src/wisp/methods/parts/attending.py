"""Where a student and its frozen teacher look: their attention maps at every stage, of passes through the same views.

Source: Zagoruyko and Komodakis 2017, added up over the stages as in RepDistiller, whose weight is `WEIGHT`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wisp.encoders.maps import Stages, paired
from wisp.encoders.teacher import Teacher
from wisp.losses.relation import attention

WEIGHT = 1000.0


@dataclass(frozen=True)
class Maps:
    """Feature maps of every pass while somebody watched, finest first; no pass at all where attention is not asked."""

    student: list[list[Tensor]]
    teacher: list[list[Tensor]]


class Attending:
    """`watching` around the passes of both, then `gaps`. Holds neither network: they are arguments."""

    def __init__(self, encoder: nn.Module, teacher: Teacher, *, image_size: int, instead: str) -> None:
        """Looks for the stages of both, once.

        Args:
            encoder: the student's, [B,3,H,W] -> [B,D].
            teacher: whose views are the student's.
            image_size: of the student.
            instead: what to use where there are none, for the message.

        Raises:
            WispError: one of the networks has no feature maps.
        """
        self.ours = Stages(encoder, image_size, instead=instead)
        self.theirs = Stages(teacher.encoder, teacher.own.image_size, instead=instead)

    @contextmanager
    def watching(self, encoder: nn.Module, teacher: Teacher) -> Iterator[Maps]:
        """Inside, the passes of both through the same views, in the same order, leave their maps.

        A pass may take a part of a view, or several views; views of one side stand next to each other in the plan.
        """
        with self.ours.watching(encoder) as student, self.theirs.watching(teacher.encoder) as shown:
            yield Maps(student, shown)

    def gaps(self, maps: Maps, rows: int) -> list[Tensor]:
        """Of each view of `rows` images, the difference of the attention maps, added up over the stages; scalars."""
        views = zip(_by_view(maps.student, rows), _by_view(maps.teacher, rows), strict=True)
        return [torch.stack([attention(s, t) for s, t in paired(*view)]).sum() for view in views]


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
