"""Batched image operations with one parameter per sample; each equals torchvision's functional of that parameter.

Images are float32 [B,3,H,W] in 0..1, parameters [B] on the same device. The three blends, the hue and solarise work in place
and return their argument: the caller owns a private copy.
"""

from __future__ import annotations

import torch
from torch import Tensor

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


def luma(x: Tensor) -> Tensor:
    """Grey value [B,1,H,W] of RGB images: ITU-R 601 with torchvision's digits."""
    return (x[:, 0:1] * 0.2989).add_(x[:, 1:2], alpha=0.587).add_(x[:, 2:3], alpha=0.114)


def blend_(x: Tensor, keep: Tensor, grey: Tensor, mean: Tensor) -> Tensor:
    """`clamp(keep * x + grey * luma(x) + mean * average(luma(x)), 0, 1)` in place; all weights [B].

    Brightness b is (b, 0, 0), contrast c is (c, 0, 1 - c), saturation s is (s, 1 - s, 0): one pass serves samples that are
    each at a different operation.
    """
    values = luma(x)
    average = values.mean((1, 2, 3)).mul_(mean)
    values.mul_(grey[:, None, None, None]).add_(average[:, None, None, None])
    return torch.addcmul(values, x, keep[:, None, None, None], out=x).clamp_(0, 1)


def brightness_(x: Tensor, factor: Tensor) -> Tensor:
    """torchvision's `adjust_brightness` with a factor per sample [B], in place."""
    return x.mul_(factor[:, None, None, None]).clamp_(0, 1)


def contrast_(x: Tensor, factor: Tensor) -> Tensor:
    """torchvision's `adjust_contrast` with a factor per sample [B], in place."""
    return blend_(x, factor, torch.zeros_like(factor), 1 - factor)


def saturation_(x: Tensor, factor: Tensor) -> Tensor:
    """torchvision's `adjust_saturation` with a factor per sample [B], in place."""
    return blend_(x, factor, 1 - factor, torch.zeros_like(factor))


def hue_(x: Tensor, shift: Tensor) -> Tensor:
    """torchvision's `adjust_hue` (HSV) with a shift per sample [B] in turns, -0.5..0.5, in place.

    Without branches: with r', g', b' stretched so that the smallest is 0 and the largest 1, the distance of the hue from cyan
    (3 of 6 sextants) is `2 + r' - g' - b'`, on green's side where g > b. Value and chroma stay; the new hue gives each channel
    back as a clamped ramp.
    """
    red, green, blue = x.unbind(1)
    low = torch.minimum(red, green).minimum(blue)
    chroma = torch.maximum(red, green).maximum(blue).sub_(low)
    from_cyan = (red + low).sub_(green).sub_(blue)
    # Where the pixel is grey the hue is anything finite: the chroma multiplies it away.
    from_cyan.div_(chroma.clamp(min=1e-12)).add_(2)
    turn = torch.copysign(from_cyan, blue - green)
    turn.div_(6).add_(shift[:, None, None])
    turn.sub_(turn.round()).mul_(6)
    torch.addcmul(low, chroma, turn.abs().sub_(1).clamp_(0, 1), out=red)
    torch.addcmul(low, chroma, (turn + 1).abs_().neg_().add_(2).clamp_(0, 1), out=green)
    torch.addcmul(low, chroma, turn.sub_(1).abs_().neg_().add_(2).clamp_(0, 1), out=blue)
    return x


def jitter(x: Tensor, order: Tensor, factors: Tensor) -> Tensor:
    """Colour jitter: the four operations in each sample's own order, clamped to 0..1 after each as torchvision does.

    Samples are sorted by the place of their hue shift, so that at each of the four places the hue runs on one slice and the
    blends on the rest.

    Args:
        x: float [B,3,H,W] in 0..1.
        order: int64 [B,4] on the CPU, a permutation of BRIGHTNESS, CONTRAST, SATURATION, HUE per sample.
        factors: float32 [B,4] on the CPU, the parameter of each of the four.

    Returns:
        A new tensor [B,3,H,W].
    """
    place = (order == HUE).int().argmax(1)
    perm = place.argsort(stable=True)
    ends = torch.bincount(place, minlength=4).cumsum(0).tolist()
    order, factors = order[perm], factors[perm]
    # [B, place, (keep, grey, mean)]
    factor = factors.gather(1, order)
    rest = 1 - factor
    weights = torch.stack([factor, rest * (order == SATURATION), rest * (order == CONTRAST)], dim=2).to(x.device)
    hues = factors[:, HUE].to(x.device)
    perm = perm.to(x.device)
    x = x.index_select(0, perm)
    first = 0
    for slot, last in enumerate(ends):
        for part in (slice(0, first), slice(last, len(x))):
            if part.start < part.stop:
                blend_(x[part], *weights[part, slot].unbind(1))
        if first < last:
            hue_(x[first:last], hues[first:last])
        first = last
    return torch.empty_like(x).index_copy_(0, perm, x)


def blur_size(size: int) -> int:
    """The odd Gaussian kernel of about a tenth of the image: 23 at 224 px (BYOL, Appendix B), 3 at 32 px, at least 3."""
    return max(3, 2 * int(size / 20) + 1)


def blur(x: Tensor, sigma: Tensor) -> Tensor:
    """torchvision's `gaussian_blur` with `blur_size` taps, reflected borders and a sigma per sample [B]; a new tensor."""
    size = x.shape[-1]
    taps = blur_size(size)
    offset = torch.arange(taps, device=x.device) - taps // 2
    kernel = (-0.5 * (offset / sigma[:, None]) ** 2).softmax(1)
    at = (torch.arange(size, device=x.device)[:, None] + offset).abs()
    at = torch.where(at >= size, 2 * (size - 1) - at, at)
    matrix = torch.zeros(len(x), size, size, device=x.device)
    matrix.scatter_add_(2, at.expand(len(x), -1, -1), kernel[:, None].expand(-1, size, -1))
    across = torch.bmm(x.reshape(len(x), -1, size), matrix.transpose(1, 2)).view_as(x)
    return torch.matmul(matrix[:, None], across)


def solarize_(x: Tensor, threshold: float) -> Tensor:
    """torchvision's `solarize`: what is `threshold` or brighter becomes its negative; in place."""
    return x.copy_(torch.where(x >= threshold, 1 - x, x))
