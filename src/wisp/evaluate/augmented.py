"""Features of randomly cropped and flipped training images, for a probe that is trained as its papers train it.

Legend: N images, D features, B batch, P passes, S side of an image in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from torch import Tensor, nn

from wisp.data.cutter import least_side
from wisp.data.plans import PLANS
from wisp.data.sources import CorruptImage, Source
from wisp.data.sources.decode import to_rgb
from wisp.data.views import Draws, ViewPlan, boxes, crop, draw, render
from wisp.evaluate.features import extract

_VIEW = PLANS["supervised"].views[0]
"""Crop 0.08 to 1 of the area, flip one half: what MoCo's released probe (main_lincls.py) trains on."""
_SEED = 0
_SMALL = 64  # pixels; below, threads cost more than they save


def cropped_and_flipped(
    encoder: nn.Module,
    source: Source,
    indices: Sequence[int],
    plain: Tensor,
    *,
    passes: int,
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    batch_size: int,
    device: torch.device,
) -> tuple[Tensor, ...]:
    """Features [N,D] of `passes` passes over the images, each image decoded once; the same on every call.

    A row of an image that can no longer be read keeps its plain features.

    Args:
        encoder: maps normalised images [B,3,S,S] on `device` to [B,D].
        source: the images.
        indices: which of them, N in all.
        plain: features [N,D] of the images as they are.
        passes: P.
        image_size: S.
        mean: of the three channels, in 0..1.
        std: of the three channels.
        batch_size: images decoded at a time.
        device: where crops are flipped and the encoder computes.
    """
    plan = ViewPlan("probe", PLANS["supervised"].source, (_VIEW,) * passes)
    at_least = least_side(plan, image_size)
    side = _VIEW.pixels(image_size)
    rows: list[int] = []  # of the P * N rows, in the order in which the encoder sees them

    def cut(place: int, drawn: Sequence[Draws]) -> Tensor | None:
        """The crops uint8 [P,3,S,S] of one image; what a thread keeps of a large photo."""
        index = indices[place]
        try:
            image = to_rgb(source.open(index), partial(source.name, index), at_least)
        except CorruptImage:
            return None
        own = slice(place % batch_size, place % batch_size + 1)
        return torch.stack([crop(image, boxes(draws[own], *image.shape[1:])[0], side) for draws in drawn])

    def batches() -> Iterator[Tensor]:
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for first in range(0, len(indices), batch_size):
                places = range(first, min(first + batch_size, len(indices)))
                drawn = draw(plan, seed=_SEED, step=first // batch_size, batch=len(places))
                cuts = (pool.map if image_size > _SMALL else map)(partial(cut, drawn=drawn), places)
                kept = [(place, views) for place, views in zip(places, cuts, strict=True) if views is not None]
                if not kept:
                    continue
                own = torch.tensor([place - first for place, _ in kept])
                crops = torch.stack([views for _, views in kept], dim=1)  # [P,B,3,S,S]
                for number, draws in enumerate(drawn):
                    rows.extend(number * len(indices) + place for place, _ in kept)
                    images = crops[number].to(device)
                    yield render(images, None, _VIEW, draws[own], size=image_size, mean=mean, std=std)

    found = plain.repeat(passes, 1)
    features = extract(encoder, batches(), device)
    found[torch.tensor(rows)] = features.to(found.dtype)
    return found.chunk(passes)
