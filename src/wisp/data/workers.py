"""Large images: decoded once per step, in this process or in worker processes, and cut into crops.

What is random follows from (seed, step), so a worker draws it by itself and computes a pure function of its task.
Legend: B samples, V views, S side of a crop in pixels.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from wisp.data.sources import CorruptImage, Source
from wisp.data.views import Draws, ViewPlan, boxes, crop, draw
from wisp.errors import WispError

_TOGETHER = 8  # decoded images held at once: boxes are cheap in groups, photos are large


@dataclass(frozen=True)
class Task:
    """One batch to prepare: the images [B] wanted, and the global step that they are for."""

    index: list[int]
    step: int


@dataclass(frozen=True)
class Cut:
    """A prepared batch.

    Attributes:
        step: global step of the task.
        index: int64 [B] the images shown; a corrupt one is replaced by the next good one.
        views: V crops uint8 [B,3,S,S]; empty when no image could be read.
        corrupt: (index, "name: reason") of the corrupt images met.
    """

    step: int
    index: Tensor
    views: tuple[Tensor, ...]
    corrupt: tuple[tuple[int, str], ...]

    def pin_memory(self) -> Cut:
        """The same in page-locked memory; torch's loader calls this."""
        return Cut(self.step, self.index, tuple(view.pin_memory() for view in self.views), self.corrupt)


@dataclass(frozen=True)
class Drawing:
    """The random parameters of a run's views, for one rank's slice `mine` of the global batch."""

    plan: ViewPlan
    seed: int
    batch: int
    mine: slice

    def at(self, step: int) -> tuple[Draws, ...]:
        """Draws of B samples for each view of a global step."""
        return tuple(draws[self.mine] for draws in draw(self.plan, seed=self.seed, step=step, batch=self.batch))


class Cutter(Dataset[Cut]):
    """Turns tasks into crops of side `size`; this is what a worker process holds."""

    def __init__(self, source: Source, drawing: Drawing, size: int) -> None:
        self.source, self.drawing, self.size = source, drawing, size

    def __getitem__(self, task: Task) -> Cut:
        """The crops of one batch."""
        drawn = self.drawing.at(task.step)
        views = tuple(torch.empty(len(task.index), 3, self.size, self.size, dtype=torch.uint8) for _ in drawn)
        shown = torch.tensor(task.index)
        corrupt: dict[int, str] = {}
        for first in range(0, len(shown), _TOGETHER):
            part = slice(first, first + _TOGETHER)
            images = []
            for place, index in enumerate(task.index[part], start=first):
                found = self._good(index, corrupt)
                if found is None:
                    return Cut(task.step, shown, (), tuple(corrupt.items()))
                shown[place], image = found
                images.append(image)
            heights = torch.tensor([image.shape[1] for image in images])
            widths = torch.tensor([image.shape[2] for image in images])
            for view, draws in zip(views, drawn, strict=True):
                for place, (image, box) in enumerate(zip(images, boxes(draws[part], heights, widths), strict=True)):
                    view[first + place] = crop(image, box, self.size)
        return Cut(task.step, shown, views, tuple(corrupt.items()))

    def _good(self, index: int, corrupt: dict[int, str]) -> tuple[int, Tensor] | None:
        """The first readable image at or after `index`, or None after too many corrupt ones."""
        for offset in range(min(len(self.source), most_corrupt(len(self.source)) + 1)):
            at = (index + offset) % len(self.source)
            try:
                return at, self.source.read(at)
            except CorruptImage as problem:
                corrupt[at] = str(problem)
        return None


def most_corrupt(images: int) -> int:
    """How many corrupt images a data set may hold: 1 %, and at least 10."""
    return max(10, images // 100)


class _Feed(Sampler[Task]):
    """Hands the tasks of the current epoch to torch's loader, whose workers outlive an epoch."""

    def __init__(self) -> None:
        self.tasks: Iterator[Task] = iter(())

    def __iter__(self) -> Iterator[Task]:
        return self.tasks


class Pool:
    """Worker processes, started with the first batch and kept for all epochs; with `workers` 0 there are none."""

    def __init__(self, cutter: Cutter, workers: int, *, pin: bool) -> None:
        self._feed = _Feed()
        self._loader = DataLoader(
            cutter,
            sampler=self._feed,
            batch_size=None,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=pin,
            worker_init_fn=_quiet,
            # A forked worker shares the source with its parent; macOS cannot fork safely and gets a pickled copy.
            multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
            generator=torch.Generator(),  # torch's loader would otherwise draw from the global random state
        )

    def run(self, tasks: Iterator[Task]) -> Iterator[Cut]:
        """Prepared batches, in the order of the tasks.

        Raises:
            WispError: a worker process was killed.
        """
        self._feed.tasks = tasks
        try:
            yield from self._loader
        except RuntimeError as problem:
            if "DataLoader worker" not in str(problem) or "exited unexpectedly" not in str(problem):
                raise
            raise WispError(
                "a data worker was killed, most likely for lack of memory: use fewer workers or a smaller batch, then "
                "start the same command again"
            ) from problem


def _quiet(worker: int) -> None:
    """Leave interrupts to the parent, which finishes its step and then ends the workers; obey its SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
