"""Batched image operations with one parameter per sample; each equals torchvision's functional of that parameter.

Images are float32 [B,3,H,W] in 0..1 on any device; parameters are CPU tensors. What ends in an underscore works in
place and returns its argument. Comparisons and `where` cost ten plain passes on a CPU, so none run over pixels here.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad, threshold

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
_CACHED = 1 << 18  # floats that a CPU core keeps close while the blur passes over them 4 * reach times


def _per_sample(values: Tensor, x: Tensor) -> Tensor:
    """[...,B] on the CPU -> [...,B,1,1,1] beside `x`."""
    return values.to(x.device, x.dtype)[..., None, None, None]


def luma(x: Tensor) -> Tensor:
    """Grey value [B,1,H,W] of RGB images [B,3,H,W]: ITU-R 601 with torchvision's digits."""
    return (x[:, 0:1] * 0.2989).add_(x[:, 1:2], alpha=0.587).add_(x[:, 2:3], alpha=0.114)


def blend_(x: Tensor, weights: Tensor) -> Tensor:
    """`clamp(keep * x + grey * luma(x) + mean * average(luma(x)), 0, 1)`, with weights (keep, grey, mean) [B,3].

    See `blend_weights`: in one pass, every sample can be at another operation.
    """
    keep, grey, mean = _per_sample(weights.T, x)
    values = luma(x)
    average = values.mean((1, 2, 3), keepdim=True).mul_(mean)
    values.mul_(grey).add_(average)
    return torch.addcmul(values, x, keep, out=x).clamp_(0, 1)


def blend_weights(operation: Tensor, factor: Tensor) -> Tensor:
    """Weights for `blend_` of brightness b: (b, 0, 0), contrast c: (c, 0, 1 - c), saturation s: (s, 1 - s, 0).

    Args:
        operation: int64 [...] BRIGHTNESS, CONTRAST or SATURATION.
        factor: float32 [...].

    Returns:
        float32 [...,3].
    """
    rest = 1 - factor
    return torch.stack([factor, rest * (operation == SATURATION), rest * (operation == CONTRAST)], dim=-1)


def hue_(x: Tensor, turns: Tensor) -> Tensor:
    """The `adjust_hue` of torchvision (HSV) with a shift per sample [B] of -0.5 to 0.5 turns.

    Without branches: with r', g', b' stretched so that the smallest is 0 and the largest 1, the distance of the hue
    from cyan, in sextants, is `2 + r' - g' - b'`, on green's side where g > b. Value and chroma stay; each channel is a
    clamped ramp of the new hue.
    """
    red, green, blue = x.unbind(1)
    low = torch.minimum(red, green).minimum(blue)
    high = torch.maximum(red, green).maximum(blue)
    chroma = high - low
    # Where a pixel is grey the hue may be anything finite: the chroma multiplies it away.
    distance = (red + low).sub_(green).sub_(blue).div_(chroma + 1e-12).add_(2)
    hue = torch.copysign(distance, blue - green).add_(6 * _per_sample(turns, x)[:, 0])
    hue.sub_((hue * (1 / 6)).round_(), alpha=6)  # back to -3..3 sextants from cyan
    torch.addcmul(low, chroma, hue.abs().sub_(1).clamp_(0, 1), out=red)
    torch.addcmul(high, chroma, (hue + 1).abs_().sub_(1).clamp_(0, 1), value=-1, out=green)
    torch.addcmul(high, chroma, hue.sub_(1).abs_().sub_(1).clamp_(0, 1), value=-1, out=blue)
    return x


def jitter_(x: Tensor, order: Tensor, factors: Tensor) -> Tensor:
    """Colour jitter in each sample's own order, clamped to 0..1 after each operation as torchvision does.

    The hue shift, the dearest operation, runs once for all: first come the blends that stand before it in a sample's
    order, three rounds of ever more samples, after it those that follow, three rounds of ever fewer.

    Args:
        x: float32 [B,3,H,W] in 0..1.
        order: int64 [B,4], permutations of BRIGHTNESS, CONTRAST, SATURATION, HUE; sorted by `hue_place`.
        factors: float32 [B,4], the parameter of each operation, in that numbering.

    Returns:
        `x`.
    """
    weights = blend_weights(order, factors.gather(1, order))
    hue_at = hue_place(order)
    # How many samples have their hue shift before place 0, 1, 2, 3, 4.
    below = [0, *hue_at.bincount(minlength=4).cumsum(0).tolist()]

    def blend(part: slice, offset: int) -> None:
        if part.start < part.stop:
            place = (hue_at[part] + offset)[:, None, None].expand(-1, 1, 3)
            blend_(x[part], weights[part].gather(1, place)[:, 0])

    for before in (3, 2, 1):
        blend(slice(below[before], len(x)), -before)
    hue_(x, factors[:, HUE])
    for after in (1, 2, 3):
        blend(slice(0, below[4 - after]), after)
    return x


def hue_place(order: Tensor) -> Tensor:
    """Where HUE stands in each order [B,4]: int64 [B], 0 to 3."""
    return (order == HUE).int().argmax(1)


def blur_size(size: int) -> int:
    """The odd Gaussian kernel of about a tenth of the image: 23 at 224 px as in BYOL, 3 (the least) at 32 px."""
    return max(3, 2 * int(size / 20) + 1)


def blur(x: Tensor, sigma: Tensor) -> Tensor:
    """The `gaussian_blur` of torchvision with `blur_size` taps, reflected borders and a sigma per sample [B].

    Returns a new tensor. Taps beyond 5.5 sigma hold less than 4e-8 of the weight and are left out (of every sample by
    its own sigma, so that none depends on its neighbours in the batch): they are half of the work at 224 px.
    """
    size = x.shape[-1]
    radius = blur_size(size) // 2
    offset = torch.arange(-radius, radius + 1)
    kernel = (-0.5 * (offset / sigma[:, None]) ** 2).softmax(1)
    kernel = torch.where(offset.abs() <= 5.5 * sigma[:, None] + 1, kernel, 0.0)
    out = torch.empty_like(x)
    count = max(1, _CACHED // x[0].numel()) if x.device.type == "cpu" else len(x)
    for some, part, blurred in zip(*(torch.split(t, count) for t in (kernel, x, out)), strict=True):
        reach = int(some.count_nonzero(1).max()) // 2
        taps = _per_sample(some[:, radius : radius + reach + 1].T, x)
        across = _blur_axis(part, taps, 3, torch.empty_like(part))
        _blur_axis(across, taps, 2, blurred)
    return out


def _blur_axis(x: Tensor, taps: Tensor, axis: int, out: Tensor) -> Tensor:
    """Blur one axis with the middle and one side [1+reach,B,1,1,1] of a symmetric kernel."""
    reach, size = len(taps) - 1, x.shape[axis]
    padded = pad(x, (reach, reach, 0, 0) if axis == 3 else (0, 0, reach, reach), mode="reflect")
    torch.mul(x, taps[0], out=out)
    pair = torch.empty_like(x)
    for i in range(1, reach + 1):
        torch.add(padded.narrow(axis, reach - i, size), padded.narrow(axis, reach + i, size), out=pair)
        out.addcmul_(pair, taps[i])
    return out


def solarize_(x: Tensor, limit: float) -> Tensor:
    """The `solarize` of torchvision: what is `limit` or brighter becomes its negative."""
    # `threshold` keeps what is above its bound, so the bound is the next smaller float32.
    below = torch.nextafter(torch.tensor(limit, dtype=torch.float32), torch.tensor(-torch.inf))
    return x.sub_(threshold(x, below.item(), 0.5), alpha=2).add_(1)
