"""Cutting and resizing: one large image in a worker process, or a whole batch as two matrix products.

Antialiased bilinear resizing is linear and separable, so cropping a box and resizing it is `Wy @ image @ Wx.T` with one
small matrix per sample and axis. Boxes are `(top, left, height, width)` in whole pixels, as in torchvision; what lies
outside the image is black, as in torchvision's `resized_crop`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

# On a CPU, above about 48 pixels a side, the few taps of torch's 8-bit filter beat dense matrices ten times.
_SMALL = 48 * 48


def crop(image: Tensor, box: Tensor, size: int) -> Tensor:
    """Cut one box out of one image and resize it with antialiasing; what a loader's worker does to a large image.

    Args:
        image: [3,H,W], uint8 (the result is rounded) or floating point.
        box: [4] top, left, height, width in pixels; may reach beyond the image, where it is black.
        size: side of the result in pixels.

    Returns:
        [3,size,size] of the same dtype, contiguous; torchvision's `resized_crop(..., antialias=True)`.
    """
    return _cut(image, box.tolist(), size).contiguous()


def _cut(image: Tensor, box: list[int], size: int) -> Tensor:
    top, left, height, width = box
    bottom, right = top + height, left + width
    rows, columns = image.shape[-2:]
    cut = image[:, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if top < 0 or left < 0 or bottom > rows or right > columns:
        cut = pad(cut, (max(-left, 0), max(right - columns, 0), max(-top, 0), max(bottom - rows, 0)))
    if (height, width) == (size, size):
        return cut
    resized: Tensor = interpolate(cut[None], size=(size, size), mode="bilinear", antialias=True)
    return resized[0]


def axis_weights(starts: Tensor, lengths: Tensor, pixels: int, size: int, device: torch.device | str = "cpu") -> Tensor:
    """The matrices that cut and resize one axis: antialiased bilinear (a triangle filter), as in PIL and torchvision.

    Args:
        starts: int64 [B] on the CPU, first pixel of each box on this axis; may be negative.
        lengths: int64 [B] on the CPU, pixels of each box on this axis.
        pixels: pixels of the image on this axis.
        size: pixels of the result.
        device: where the matrices are made.

    Returns:
        float32 [B,size,pixels]. A row sums to 1 unless a part of its filter lies outside the image.
    """
    # From as far outside the image as any box reaches: a filter is normalised over its box, black pixels included.
    before = max(0, -int(starts.min()))
    after = max(0, int((starts + lengths).max()) - pixels)
    pixel = torch.arange(-before, pixels + after, device=device) + 0.5
    start, length = torch.stack([starts, lengths]).to(device, torch.float32)[:, :, None]
    scale = length / size
    support = scale.clamp(min=1)
    place = pixel - start
    # In units of the filter's half width; infinitely far where the pixel is outside the box.
    place = torch.where((place > 0) & (place < length), place / support, torch.inf)
    centre = (torch.arange(size, device=device) + 0.5) * (scale / support)
    weights: Tensor = torch.rsub((place[:, None, :] - centre[:, :, None]).abs_(), 1).clamp_(min=0)
    weights.div_(weights.sum(2, keepdim=True))
    return weights[:, :, before : before + pixels]


def render_crops(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Cut one box out of each image and resize it with antialiasing, on the device where the images are.

    Args:
        images: uint8 [B,3,H,W].
        boxes: int64 [B,4] on the CPU: top, left, height, width in pixels; outside the image is black.
        size: side of the result in pixels.

    Returns:
        float32 [B,3,size,size] in 0..1; torchvision's `resized_crop(..., antialias=True)` of each image. On a CPU large
        ones are what `crop` makes of them, rounded to 8 bits.
    """
    batch, channels, height, width = images.shape
    device = images.device
    if device.type == "cpu" and size * max(height, width) > _SMALL:
        cuts = [_cut(image, box, size) for image, box in zip(images, boxes.tolist(), strict=True)]
        return torch.stack(cuts).float().mul_(1 / 255)
    top, left, rows, columns = boxes.unbind(1)
    if height == width:
        starts, lengths = torch.cat([top, left]), torch.cat([rows, columns])
        down, across = axis_weights(starts, lengths, height, size, device).chunk(2)
    else:
        down = axis_weights(top, rows, height, size, device)
        across = axis_weights(left, columns, width, size, device)
    across.mul_(1 / 255)  # the smallest tensor on the way to 0..1
    wide = torch.bmm(images.float().view(batch, channels * height, width), across.transpose(1, 2))
    rendered: Tensor = down[:, None] @ wide.view(batch, channels, height, size)
    return rendered
