"""Where the crops of a batch lie in one flat block of memory, whatever their sides.

One block is one allocation in shared memory and one copy to the device; views of one side and of several are the same.
Legend: B samples of this rank, V views, S side of a view in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """One view after the other, each [B,3,S,S] with its own S.

    Attributes:
        batch: B.
        sides: S of each of the V views.
    """

    batch: int
    sides: tuple[int, ...]

    @property
    def numbers(self) -> int:
        """Length of the block."""
        return sum(self._lengths())

    def views(self, block: Tensor) -> tuple[Tensor, ...]:
        """The V views [B,3,S,S] of a block [numbers]; they share its memory."""
        parts = zip(block.split(self._lengths()), self.sides, strict=True)
        return tuple(part.view(self.batch, 3, side, side) for part, side in parts)

    def _lengths(self) -> list[int]:
        return [self.batch * 3 * side * side for side in self.sides]
