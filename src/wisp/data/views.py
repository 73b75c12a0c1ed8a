"""Augmented views: the batched operations that apply a step's draws, on the device where the images are.

The order is the one of every paper here: crop and resize, flip, colour jitter, grey, blur, solarise, normalise.
Legend: B batch, S side of the view in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from wisp.data import ops
from wisp.data.crops import crop, render_crops
from wisp.data.draws import Draws, View, ViewPlan, boxes, choose, draw

__all__ = [
    "Draws",
    "View",
    "ViewPlan",
    "boxes",
    "choose",
    "crop",
    "draw",
    "normalize",
    "photometric",
    "render",
    "render_crops",
]

_PIECE = 1 << 20  # floats of a batch that a CPU works on at a time: 4 MiB, so that passes over them stay in its cache


def photometric(x: Tensor, view: View, draws: Draws) -> Tensor:
    """Flip, colour jitter, grey, blur and solarise, each on the samples that drew it.

    Args:
        x: float32 [B,3,S,S] in 0..1, on any device; left unchanged.
        view: what the draws were made for.
        draws: B samples.

    Returns:
        float32 [B,3,S,S] in 0..1 on the same device.
    """
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    for part, order, inverse in _pieces(draws, x.shape[1:].numel(), x.device):
        y = x[part].index_select(0, order.to(x.device))
        _recolour_(y, view, draws[part][order])
        torch.index_select(y, 0, inverse.to(x.device), out=out[part])
    return out


def normalize(x: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """`(x - mean) / std` per channel, in channels_last memory, ready for the encoder.

    Args:
        x: float32 [B,3,S,S] in 0..1.
        mean: of the three channels.
        std: of the three channels.

    Returns:
        A new float32 [B,3,S,S], channels_last.
    """
    return _scale_(x.clone(memory_format=torch.contiguous_format), mean, std).contiguous(
        memory_format=torch.channels_last
    )


def render(
    images: Tensor,
    at: Tensor | None,
    view: View,
    draws: Draws,
    *,
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
) -> Tensor:
    """One whole view: `normalize(photometric(render_crops(...)))`, in pieces that stay in the processor's cache.

    Args:
        images: uint8 [B,3,H,W]; [B,3,S,S] when they are cut already.
        at: crop boxes int64 [B,4] on the CPU, or None when the images are cut already.
        view: what the draws were made for.
        draws: B samples.
        size: the image size; the view's own side is S = `view.pixels(size)`.
        mean: of the three channels.
        std: of the three channels.

    Returns:
        float32 [B,3,S,S], normalised, channels_last, where the images are.
    """
    device, side = images.device, view.pixels(size)
    out = torch.empty(len(images), side, side, 3, device=device)
    for part, order, inverse in _pieces(draws, 3 * side * side, device):
        chosen = images[part].index_select(0, order.to(device))
        x = chosen.float().mul_(1 / 255) if at is None else render_crops(chosen, at[part][order], side)
        _recolour_(x, view, draws[part][order])
        x = _scale_(x, mean, std).contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
        torch.index_select(x, 0, inverse.to(device), out=out[part])
    return out.permute(0, 3, 1, 2)


def _pieces(draws: Draws, floats: int, device: torch.device) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Cut a batch into pieces, and order each as `_recolour_` wants it.

    Args:
        draws: B samples.
        floats: numbers in one sample's view.
        device: a CPU gets pieces of at most `_PIECE` numbers.

    Yields:
        The slice of the batch, the order int64 [n] of its samples, and the inverse of that order.
    """
    limit = max(1, _PIECE // floats) if device.type == "cpu" else len(draws)
    key = 2 * torch.where(draws.jitter, ops.hue_place(draws.order), 4) + draws.flip
    for first in range(0, len(draws), limit):
        part = slice(first, first + limit)
        order = key[part].argsort(stable=True)
        yield part, order, order.argsort()


def _recolour_(x: Tensor, view: View, draws: Draws) -> None:
    """All photometric operations in place; samples are sorted by (no jitter, place of the hue shift, flip)."""
    changes = draws.flip.diff().nonzero()[:, 0].add_(1).tolist()
    for first, last in zip([0, *changes], [*changes, len(x)], strict=True):
        if draws.flip[first]:
            x[first:last] = x[first:last].flip(-1)
    jittered = int(draws.jitter.sum())
    if jittered:
        ops.jitter_(x[:jittered], draws.order[:jittered], draws.factors[:jittered])
    _where_(x, draws.gray, lambda y, _: ops.luma(y).expand_as(y))
    _where_(x, draws.blur, lambda y, chosen: ops.blur(y, draws.sigma[chosen]))
    _where_(x, draws.solarize, lambda y, _: ops.solarize_(y, view.solarize_threshold))


def _where_(x: Tensor, chosen: Tensor, operation: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Replace the chosen samples (bool [B] on the CPU) by `operation(those samples, chosen)`."""
    count = int(chosen.sum())
    if count == len(x):
        x.copy_(operation(x, chosen))
    elif count:
        there = chosen.nonzero()[:, 0].to(x.device)
        x.index_copy_(0, there, operation(x.index_select(0, there), chosen).contiguous())


def _scale_(x: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    shift, scale = (torch.tensor(v, dtype=x.dtype, device=x.device)[:, None, None] for v in (mean, std))
    return x.sub_(shift).mul_(1 / scale)
