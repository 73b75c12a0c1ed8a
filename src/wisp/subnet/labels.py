"""Labels for the entries of axes: two entries with one label must be selected together."""

from __future__ import annotations

from enum import IntFlag

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.int64]


class Mark(IntFlag):
    """What is known about a label. Any mark but HEAD means that the entry is never left out or multiplied."""

    NONE = 0
    BOUNDARY = 1
    """An image channel, the output of the network, or the output of a layer that is fixed."""
    SIZE = 2
    """Part of a kernel, of a head, of a convolution group, or a single channel that is broadcast."""
    POSITION = 4
    """A place in the image or a token."""
    READ = 8
    """Meets a constant, or an operation that reads positions: a channel must not do that."""
    HEAD = 16
    """Stands for a head; its number is no matter of rounding."""


FIXED = Mark.BOUNDARY | Mark.SIZE | Mark.POSITION | Mark.READ


class Labels:
    """A union-find over integers, on vectors of them; the lowest label of a class stands for it."""

    def __init__(self) -> None:
        self._parents: Vector = np.empty(0, dtype=np.int64)
        self._marks: Vector = np.empty(0, dtype=np.int64)
        self._count = 0

    def fresh(self, size: int, mark: Mark = Mark.NONE) -> Vector:
        """`size` new labels, [size]."""
        end = self._count + size
        if end > len(self._parents):
            room = np.zeros(end, dtype=np.int64)
            self._parents, self._marks = np.append(self._parents, room), np.append(self._marks, room)
        new = np.arange(self._count, end, dtype=np.int64)
        self._parents[new], self._marks[new] = new, int(mark)
        self._count = end
        return new

    def find(self, vector: Vector) -> Vector:
        """The class of every label, of the same shape."""
        roots = self._parents[vector]
        while (above := self._parents[roots]).tolist() != roots.tolist():
            roots = above
        self._parents[vector] = roots
        return roots

    def tie(self, one: Vector, other: Vector) -> None:
        """Make the labels at equal places one class; the shapes broadcast."""
        one, other = np.broadcast_arrays(self.find(one), self.find(other))
        differ = one != other
        for a, b in zip(one[differ].tolist(), other[differ].tolist(), strict=True):
            low, high = sorted((self._root(a), self._root(b)))
            self._parents[high] = low
            self._marks[low] |= self._marks[high]

    def mark(self, vector: Vector, mark: Mark) -> None:
        """Add `mark` to the classes of all labels."""
        self._marks[self.find(vector)] |= int(mark)

    def has(self, vector: Vector, mark: Mark) -> NDArray[np.bool_]:
        """Whether each label's class has any of these marks, of the same shape."""
        carries: NDArray[np.bool_] = (self._marks[self.find(vector)] & int(mark)) != 0
        return carries

    def _root(self, label: int) -> int:
        while (parent := int(self._parents[label])) != label:
            label = parent
        return label
