"""CutMix: a box of every image of a batch shows what another image has there (Yun et al. 2019).

Source: BINGO's released utils.py. The box has 1 - m of the image's area, m drawn from Beta(2,2), and its proportions;
its centre is drawn uniformly, and what lies outside of the image is cut off. One box serves the whole batch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from wisp.methods.parts.shuffle import chance


def cutmix(images: Tensor, others: Tensor, progress: float) -> tuple[Tensor, float]:
    """Images with a box of others.

    Args:
        images: [B,3,H,W], left unchanged.
        others: [B,3,H,W]; the box comes from the same place in them.
        progress: of the training; another step, another box, the same on every process.

    Returns:
        [B,3,H,W], and the share of their area that is still the images' own.
    """
    height, width = images.shape[-2:]
    rows, columns = box(height, width, progress)
    mixed = images.clone()
    mixed[..., rows, columns] = others[..., rows, columns]
    return mixed, 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)


def box(height: int, width: int, progress: float) -> tuple[slice, slice]:
    """The rows and the columns of a step's box; it may be empty."""
    drawn = torch.rand(5, generator=chance(progress, "cutmix"), dtype=torch.float64)
    share = math.sqrt(1 - float(drawn[:3].median()))  # the middle one of three uniform numbers is of Beta(2,2)
    down, across = (
        _span(side, int(side * share), float(u)) for side, u in zip((height, width), drawn[3:], strict=True)
    )
    return down, across


def _span(side: int, length: int, place: float) -> slice:
    """So many of `side` pixels around a place in 0..1, an odd one less; cut off at both ends."""
    centre, half = int(place * side), length // 2
    return slice(max(0, centre - half), min(side, centre + half))
