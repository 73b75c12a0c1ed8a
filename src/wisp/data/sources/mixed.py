"""A task's own training images, and extra ones behind them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps
from torch import Tensor

from wisp.data.sources.decode import to_rgb
from wisp.data.sources.source import CorruptImage, Source, shown


class Mixed:
    """The images of a task, then the extra ones; what is evaluated takes `task` and never sees these.

    Where all images of the task are small and of one size, the extra ones are brought to it: the shorter side is
    resized with antialiasing, the middle is cut out. They then look as coarse as the task's own, and all of them stay
    in memory as 8-bit pixels. Otherwise every image keeps its size and is decoded anew for every step.

    Args:
        task: the task's own training images, T.
        extra: the extra ones that are used, E.
        folder: where they lie.
        found: how many lie there.
        labels: of the extra images, numbers of the task's classes; None where nobody asks for labels.
        size: (width, height) that they are brought to; None keeps theirs.
        made: what DIR/manifest.json says of how they were made, if it is there.
    """

    def __init__(
        self,
        task: Source,
        extra: Source,
        *,
        folder: Path,
        found: int,
        labels: Sequence[int] | None,
        size: tuple[int, int] | None,
        made: dict[str, Any] | None,
    ) -> None:
        self.task, self.extra = task, extra
        self.folder, self.found, self.made = folder, found, made
        self._labels, self._size = labels, size

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Those of the task; None where the extra images have no labels."""
        return None if self._labels is None else self.task.classes

    @property
    def missing_labels(self) -> int:
        """As `Source.missing_labels`."""
        unlabelled = self.task.classes is not None and self._labels is None
        return len(self.extra) if unlabelled else self.task.missing_labels

    def __len__(self) -> int:
        return len(self.task) + len(self.extra)

    def open(self, index: int) -> Image.Image:
        """As `Source.open`."""
        if index < len(self.task):
            return self.task.open(index)
        try:
            image = self.extra.open(index - len(self.task))
        except CorruptImage as problem:
            raise CorruptImage(self.name(index), problem.reason) from problem
        if self._size is None:
            return image
        pixels = to_rgb(image, partial(self.name, index), 2 * max(self._size)).permute(1, 2, 0).numpy()
        return ImageOps.fit(Image.fromarray(pixels), self._size, Image.Resampling.BILINEAR)

    def read(self, index: int) -> Tensor:
        """As `Source.read`: uint8 [3,H,W]."""
        if index < len(self.task):
            return self.task.read(index)
        return to_rgb(self.open(index), partial(self.name, index))

    def label(self, index: int) -> int | None:
        """As `Source.label`."""
        if self._labels is None:
            return None
        return self.task.label(index) if index < len(self.task) else self._labels[index - len(self.task)]

    def name(self, index: int) -> str:
        """The task's own name of an image, or one behind `--extra`, which no image of a task has."""
        if index < len(self.task):
            return self.task.name(index)
        return f"--extra {self.folder.name}/{self.extra.name(index - len(self.task))}"

    def places(self) -> set[str]:
        """As `Source.places`: of both parts."""
        return self.task.places() | self.extra.places()

    def told(self) -> str:
        """The extra images in words: how many, how many times the task's, and which classes have none."""
        share = len(self.extra) / len(self.task)
        of = f"all {self.found:,}" if len(self.extra) == self.found else f"{len(self.extra):,} of {self.found:,}"
        told = f"{self.folder.name}: {of} images, {share:.3g} x the task's; an epoch passes over all {len(self):,}"
        if self._size is not None:
            told += f"; brought to the task's {' x '.join(map(str, self._size))} px"
        if self._labels is not None and self.task.classes is not None:
            has = set(self._labels)
            bare = [name for number, name in enumerate(self.task.classes) if number not in has]
            told += f"; none of {shown(bare)}" if bare else ""
        return told
