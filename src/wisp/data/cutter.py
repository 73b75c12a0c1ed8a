"""Large images: decoded once per step and cut into the crops of all views.

What is random follows from (seed, step), so whoever cuts draws it by itself: the crops are a pure function of the task.
Legend: B samples of this rank, V views, S side of a view in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from wisp.data.sources import CorruptImage, Source, most_corrupt
from wisp.data.sources.decode import to_rgb
from wisp.data.views import Draws, View, ViewPlan, boxes, choose, crop, draw

_TOGETHER = 8  # decoded images held at once: boxes are cheap in groups, photos are large


@dataclass(frozen=True)
class Task:
    """One batch to prepare: the images [B] wanted, and the global step that they are for."""

    index: list[int]
    step: int


@dataclass(frozen=True)
class Drawing:
    """What is random in a run's batches, for one rank's slice `mine` of the global batch.

    Attributes:
        companions: int64 [N,K], K images for each of which one is shown beside it; None where there are none.
    """

    plan: ViewPlan
    seed: int
    batch: int
    mine: slice
    companions: Tensor | None = None

    @property
    def views(self) -> tuple[View, ...]:
        """All views of a sample: the plan's, and the plan's again where there is a companion."""
        return self.plan.views * (1 if self.companions is None else 2)

    def at(self, step: int) -> tuple[Draws, ...]:
        """Draws of B samples for each of `views` at a global step; a companion has its own."""
        shown = ["views"] if self.companions is None else ["views", "companions"]
        sets = (draw(self.plan, seed=self.seed, step=step, batch=self.batch, of=of) for of in shown)
        return tuple(draws[self.mine] for drawn in sets for draws in drawn)

    def beside(self, index: Tensor, step: int, part: slice) -> Tensor | None:
        """Companions int64 [n] of the images int64 [n] that are shown in a part of B; None where there are none."""
        if self.companions is None:
            return None
        chosen = choose(self.companions.shape[1], seed=self.seed, step=step, batch=self.batch)
        return self.companions[index, chosen[self.mine][part]]


@dataclass(frozen=True)
class Shown:
    """What became of a part of a task.

    Attributes:
        index: the images shown, without their companions; a corrupt one is replaced by the next good one. Shorter than
            the part when too many in a row were corrupt to go on.
        corrupt: "name: reason" of the corrupt images met, by index.
    """

    index: list[int]
    corrupt: dict[int, str]


class Cutter:
    """Turns tasks into crops for images of `size` pixels; picklable, for a worker process.

    A large JPEG is decoded at a half, quarter or eighth of its size when even the smallest crop of every view still has
    the view's pixels then; which one depends on the image alone, not on the draws.
    """

    def __init__(self, source: Source, drawing: Drawing, size: int) -> None:
        self.source, self.drawing = source, drawing
        self._sides = [view.pixels(size) for view in drawing.views]
        self._at_least = least_side(drawing.plan, size)

    def cut(self, task: Task, part: slice, out: Sequence[Tensor]) -> Shown:
        """Prepare the samples `part` of a task.

        Args:
            task: the batch.
            part: which of its B samples.
            out: a tensor uint8 [B,3,S,S] for each of the drawing's views, with the view's S; only the rows of the part
                are written.
        """
        drawn = self.drawing.at(task.step)
        shown = Shown([], {})
        for first in range(part.start, part.stop, _TOGETHER):
            few = slice(first, min(first + _TOGETHER, part.stop))
            views = list(zip((view[few] for view in out), (draws[few] for draws in drawn), self._sides, strict=True))
            own = len(self.drawing.plan.views)
            index = self._cut(task.index[few], views[:own], shown.corrupt)
            beside = self.drawing.beside(torch.tensor(index), task.step, few) if index is not None else None
            if beside is not None and self._cut(beside.tolist(), views[own:], shown.corrupt) is None:
                index = None
            if index is None:
                return shown
            shown.index.extend(index)
        return shown

    def _cut(
        self, wanted: list[int], views: Sequence[tuple[Tensor, Draws, int]], corrupt: dict[int, str]
    ) -> list[int] | None:
        """Cuts n images into the rows [n,3,S,S] of each view; which they are, or None after too many corrupt ones."""
        found = []
        for index in wanted:
            good = self._good(index, corrupt)
            if good is None:
                return None
            found.append(good)
        heights = torch.tensor([image.shape[1] for _, image in found])
        widths = torch.tensor([image.shape[2] for _, image in found])
        for rows, draws, side in views:
            for row, (_, image), box in zip(rows, found, boxes(draws, heights, widths), strict=True):
                row.copy_(crop(image, box, side))
        return [index for index, _ in found]

    def _good(self, index: int, corrupt: dict[int, str]) -> tuple[int, Tensor] | None:
        """The first readable image at or after `index`, or None after too many corrupt ones."""
        for offset in range(min(len(self.source), most_corrupt(len(self.source)) + 1)):
            at = (index + offset) % len(self.source)
            try:
                return at, to_rgb(self.source.open(at), partial(self.source.name, at), self._at_least)
            except CorruptImage as problem:
                corrupt[at] = str(problem)
        return None


def least_side(plan: ViewPlan, image_size: int) -> int:
    """Pixels that an image's shorter side needs so that no crop of any view is smaller than the view itself."""
    return math.ceil(max(view.pixels(image_size) / _smallest_crop(view) for view in plan.views))


def _smallest_crop(view: View) -> float:
    """Shortest side that a crop of this view can have, as a fraction of the image's shorter side."""
    low, high = view.crop_ratio
    return math.sqrt(view.crop_scale[0] * min(low, 1 / high, 1.0))
