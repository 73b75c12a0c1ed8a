"""Small images of one size, decoded once into one tensor."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from wisp.data.sources import CorruptImage, Source

_SIDE = 64  # pixels; larger images are decoded anew for every view
_BYTES = 2 << 30
_NEWS = 1000  # images between two calls of `progress`
_HEADERS = 1000


def common_size(source: Source) -> tuple[int, int] | None:
    """(width, height) of the images where they are small and of one size, as a thousand headers or so say; or None."""
    size: tuple[int, int] | None = None
    for index in range(0, len(source), max(1, len(source) // _HEADERS)):
        try:
            found = source.open(index).size
        except CorruptImage:
            continue
        if max(found) > _SIDE or found != (size or found):
            return None
        size = found
    return size


def decoded_once(
    source: Source,
    corrupt: Callable[[int, str], None],
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Tensor, Tensor] | None:
    """Decode a whole source, when its images are small, of one size, and fit into 2 GiB.

    One thread: at 32 pixels two are slower than one, because Python's share of the work exceeds the decoder's.

    Args:
        source: the images.
        corrupt: told (index, "name: reason") of every image that cannot be read; it may raise to stop.
        progress: told (images decoded, images).

    Returns:
        (pixels uint8 [N,3,H,W], shows int64 [N]), where row i of pixels holds image `shows[i]`: i itself, or the
        next good image after a corrupt one. None when the images are not of that kind.
    """
    count = len(source)
    shows = torch.arange(count)
    pixels: Tensor | None = None
    bad: list[int] = []
    for index in range(count):
        try:
            image = source.read(index)
        except CorruptImage as problem:
            bad.append(index)
            corrupt(index, str(problem))
            continue
        if pixels is None:
            if max(image.shape) > _SIDE or count * image.numel() > _BYTES:
                return None
            pixels = torch.empty(count, *image.shape, dtype=torch.uint8)
        if image.shape != pixels.shape[1:]:
            return None
        pixels[index] = image
        if progress and (index + 1) % _NEWS == 0:
            progress(index + 1, count)
    if pixels is None:
        return None
    unusable = set(bad)
    for index in bad:
        good = next(i % count for i in range(index + 1, index + count) if i % count not in unusable)
        pixels[index], shows[index] = pixels[good], good
    return pixels, shows
