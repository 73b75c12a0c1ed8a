"""What operations that only rearrange a tensor do to the labels of its axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from wisp.subnet.labels import FIXED, Labels, Mark, Vector

Dims = list[Vector | None]
"""The labels of each axis of a tensor; None for a batch, places in an image, tokens: nothing that has a width."""


class Regrouping:
    """`view` and `reshape`: axes are merged into one, and one is split into several.

    Splitting reads channels as heads: of the factors, the last is the size of a head, the one before it is their
    number, and what stands further left is queries, keys and values. Where the labels say otherwise (an axis that
    was merged before) they are believed. Merging is the same backwards: of two axes with channels the first has a
    width, the others are fixed.
    """

    def __init__(self, labels: Labels) -> None:
        self.labels = labels

    def __call__(self, dims: Dims, before: Sequence[int], after: Sequence[int]) -> Dims:
        """The labels of a tensor of shape `before` in the shape `after`."""
        result: Dims = []
        i = j = 0
        while i < len(before) or j < len(after):
            start, begin = i, j
            i, j = min(i + 1, len(before)), min(j + 1, len(after))
            while math.prod(before[start:i]) != math.prod(after[begin:j]):
                if math.prod(before[start:i]) < math.prod(after[begin:j]):
                    i += 1
                else:
                    j += 1
            if i - start == j - begin == 1:
                result.append(dims[start])
            else:
                result += self._split(self._merge(dims[start:i], before[start:i]), after[begin:j])
        return result

    def _merge(self, dims: Dims, sizes: Sequence[int]) -> Vector | None:
        labelled = []
        for at, (vector, size) in enumerate(zip(dims, sizes, strict=True)):
            if vector is not None and size == 1:
                self.labels.mark(vector, Mark.SIZE)
            elif vector is not None:
                labelled.append((at, vector))
        free = [(at, vector) for at, vector in labelled if not self.labels.has(vector, FIXED).all()] or labelled[:1]
        if not free:
            return None
        for _, vector in free[1:]:  # the size of a head, as in a split
            self.labels.mark(vector, Mark.SIZE)
        at, vector = free[0]
        return np.broadcast_to(vector.reshape([-1 if k == at else 1 for k in range(len(sizes))]), sizes).flatten()

    def _split(self, vector: Vector | None, sizes: Sequence[int]) -> Dims:
        factors = [at for at, size in enumerate(sizes) if size > 1]
        result: Dims = [None] * len(sizes)
        if vector is None or not factors:
            return result
        grid = self.labels.find(vector).reshape(sizes)
        kept = next((at for at in factors if self._depends_only_on(grid, at)), None)
        if kept is None:
            kept = factors[-2]
            self.labels.tie(grid, _slice_along(grid, kept, keepdims=True))
            self.labels.mark(grid, Mark.HEAD)
        result[kept] = _slice_along(grid, kept, keepdims=False)
        return result

    def _depends_only_on(self, grid: Vector, at: int) -> bool:
        return bool((grid == _slice_along(grid, at, keepdims=True)).all())


def _slice_along(grid: Vector, at: int, keepdims: bool) -> Vector:
    """The entries of `grid` along one axis, at the start of all others."""
    index = tuple(slice(None) if k == at else slice(0, 1) for k in range(grid.ndim))
    return grid[index] if keepdims else grid[index].flatten()
