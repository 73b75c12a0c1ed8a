"""What every data set looks like to the rest of wisp, and the views that select part of one.

Legend: H, W the image's own height and width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from wisp.errors import WispError


class CorruptImage(Exception):
    """One image that cannot be decoded; a training replaces it, an evaluation leaves it out, `wisp check` lists it.

    Attributes:
        name: the file or row, as the user knows it.
        reason: what is wrong with it, in a few words.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


class Source(Protocol):
    """A data set: a fixed, stable order of images, with or without class labels."""

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes, or None unless every image has a label."""

    @property
    def missing_labels(self) -> int:
        """How many images have no label although others have one, so that all of them count as unlabelled."""

    def __len__(self) -> int:
        """Number of images, readable or not."""

    def open(self, index: int) -> Image.Image:
        """The image as stored, header read but pixels not decoded yet; raises `CorruptImage`."""

    def read(self, index: int) -> Tensor:
        """The image as RGB uint8 [3,H,W]; raises `CorruptImage`."""

    def label(self, index: int) -> int | None:
        """Class of the image as an index into `classes`; None when there are no classes, and only then."""

    def name(self, index: int) -> str:
        """File name or row, for messages."""

    def places(self) -> set[str]:
        """Real paths of the files that hold the images; empty for a data set that is known by name."""


class Subset:
    """Some images of a source, in a given order."""

    def __init__(self, source: Source, indices: Iterable[int]) -> None:
        self.source = source
        self.indices = torch.as_tensor(list(indices), dtype=torch.int64)  # one buffer: cheap to share with workers

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The classes of the whole source, so that labels keep their meaning."""
        return self.source.classes

    @property
    def missing_labels(self) -> int:
        """Of the whole source, for it is why there are no classes."""
        return self.source.missing_labels

    def __len__(self) -> int:
        return len(self.indices)

    def open(self, index: int) -> Image.Image:
        """As `Source.open`."""
        return self.source.open(self._at(index))

    def read(self, index: int) -> Tensor:
        """As `Source.read`: uint8 [3,H,W]."""
        return self.source.read(self._at(index))

    def label(self, index: int) -> int | None:
        """As `Source.label`."""
        return self.source.label(self._at(index))

    def name(self, index: int) -> str:
        """As `Source.name`."""
        return self.source.name(self._at(index))

    def places(self) -> set[str]:
        """Of the whole source: who took its other images would take from the same files."""
        return self.source.places()

    def _at(self, index: int) -> int:
        return int(self.indices[index])


def labels_of(source: Source) -> list[int]:
    """All labels of a source, in its order.

    Raises:
        WispError: the source has no labels, or not for every image.
    """
    labels = [source.label(i) for i in range(len(source))]
    known = [label for label in labels if label is not None]
    if source.classes is None or len(known) < len(labels):
        raise WispError(
            "these images have no labels: use one sub-folder per class, or a parquet file with a `label` column"
        )
    return known


def split_source(source: Source, fraction: float = 0.1, *, seed: int = 0) -> tuple[Subset, Subset]:
    """Set part of a labelled source aside for evaluation: (train, val), the same classes in both.

    Every class with at least two images gives `fraction` of them (at least one) to val; which ones depends on `seed`
    and the labels only. Both parts keep the order of the source.

    Raises:
        WispError: the source has no labels, or is too small to give an image away.
    """
    if not 0 < fraction < 1:
        raise WispError(f"the part set aside for evaluation must lie between 0 and 1, not {fraction}")
    by_class: dict[int, list[int]] = {}
    labels = labels_of(source)
    for index in torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).tolist():
        by_class.setdefault(labels[index], []).append(index)
    val = {index for members in by_class.values() for index in members[: _given(len(members), fraction)]}
    if not val:
        raise WispError("no class has two images, so none can be set aside for evaluation: add images or give --val")
    return Subset(source, (i for i in range(len(labels)) if i not in val)), Subset(source, sorted(val))


def _given(members: int, fraction: float) -> int:
    return min(members - 1, max(1, round(members * fraction)))


def printable(text: str) -> str:
    """A file name that any terminal, JSON file or report can hold: what cannot be printed stands as an escape."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def shown(names: Sequence[str], most: int = 3) -> str:
    """The first few of many names, for a one-line message."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def most_corrupt(images: int) -> int:
    """How many corrupt images a data set may hold: 1 %, and at least 10."""
    return max(10, images // 100)
