"""Unaugmented batches for evaluation: every image once, in the order asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from wisp.data.sources import CorruptImage, Source, most_corrupt, shown
from wisp.data.sources.decode import to_rgb
from wisp.data.views import normalize
from wisp.errors import WispError

_PART = 0.875  # of the shorter side is kept, as in the evaluation of most ImageNet models
_TIGHT = 64  # pixels; smaller images are framed tightly, so nothing of them is cut away


def plain_batches(
    source: Source,
    indices: Sequence[int],
    *,
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    batch_size: int,
    left_out: set[int],
    device: torch.device | str = "cpu",
    unreadable: dict[int, str] | None = None,
) -> Iterator[Tensor]:
    """Images as an evaluation sees them.

    The shorter side is resized to S / 0.875 (bilinear, antialiased) and the central S x S is cut out. Images of 64
    pixels or less are resized to S itself, and left as they are when they have it. Photos are decoded by as many
    threads as torch uses (for small images threads only cost time), large JPEGs at a reduced size of at least twice
    what is needed. A corrupt image has no row: no other one is asked about in its place.

    Args:
        source: the images.
        indices: which of them, n in all.
        image_size: S.
        mean: of the three channels, in 0..1.
        std: of the three channels.
        batch_size: most images in a batch.
        left_out: the places (0 to n - 1) of corrupt images are added to it, ahead of the batches around them.
        device: where the batches are wanted.
        unreadable: receives index -> "name: reason" of each.

    Yields:
        float32 [B,3,S,S], normalised, channels_last; n rows in all, less those that are left out.

    Raises:
        WispError: all are corrupt, or more than a data set of this source's size may hold (`most_corrupt`).
    """
    wanted = [int(index) for index in indices]
    shorter = round(image_size / _PART)
    bad = {} if unreadable is None else unreadable
    met: set[int] = set()

    def image(place: int) -> Tensor | None:
        at = wanted[place]
        try:
            return centred(to_rgb(source.open(at), partial(source.name, at), 2 * shorter), image_size)
        except CorruptImage as problem:
            bad[at] = str(problem)
            left_out.add(place)
            met.add(at)
        if len(met) > most_corrupt(len(source)) or len(met) == len(set(wanted)):
            names = shown([bad[at] for at in sorted(met)])
            raise WispError(f"images cannot be read ({names}): `wisp check DATA` names all; remove them")
        return None

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for first in range(0, len(wanted), batch_size):
            places = range(first, min(first + batch_size, len(wanted)))
            images = [x for x in (pool.map if image_size > _TIGHT else map)(image, places) if x is not None]
            if images:
                yield normalize(torch.stack(images).to(device).float().div_(255), mean, std)


def centred(image: Tensor, size: int) -> Tensor:
    """The evaluation crop of one image: uint8 [3,H,W] -> uint8 [3,size,size]."""
    short = min(image.shape[-2:])
    side = size if short <= _TIGHT else round(size / _PART)
    if short != side:
        image = F.resize_image(image, [side], antialias=True)
    middle: Tensor = F.center_crop_image(image, [size])
    return middle
