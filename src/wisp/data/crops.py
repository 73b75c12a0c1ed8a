"""Cutting and resizing: one large image in a worker process, or a whole batch as two matrix products.

Antialiased bilinear resizing is linear and separable, so cropping a box and resizing it is `Wy @ image @ Wx.T` with one small
matrix per sample and axis. Boxes are `(top, left, height, width)` in whole pixels, as in torchvision; what lies outside the
image is black, as in `torchvision.transforms.functional.resized_crop`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

# On a CPU the weights of one slice of the batch should stay in the cache (floats, per axis).
_CPU_WEIGHTS = 1 << 18


def crop(image: Tensor, box: Tensor, size: int) -> Tensor:
    """Cut one box out of one image and resize it with antialiasing; what a loader's worker does to a large image.

    Args:
        image: uint8 [3,H,W].
        box: [4] top, left, height, width in pixels; may reach beyond the image, where it is black.
        size: side of the result in pixels.

    Returns:
        uint8 [3,size,size], contiguous; `resized_crop(..., antialias=True)` of torchvision.
    """
    top, left, height, width = (int(v) for v in box.tolist())
    bottom, right = top + height, left + width
    rows, columns = image.shape[-2:]
    cut = image[:, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if top < 0 or left < 0 or bottom > rows or right > columns:
        cut = pad(cut, (max(-left, 0), max(right - columns, 0), max(-top, 0), max(bottom - rows, 0)))
    if (height, width) == (size, size):
        return cut.contiguous()
    return interpolate(cut[None], size=(size, size), mode="bilinear", antialias=True)[0].contiguous()


def axis_weights(starts: Tensor, lengths: Tensor, pixels: int, size: int) -> Tensor:
    """The matrices that cut and resize one axis: antialiased bilinear (a triangle filter), as in PIL and torchvision.

    Args:
        starts: [B] first pixel of each box on this axis; may be negative.
        lengths: [B] pixels of each box on this axis.
        pixels: pixels of the image on this axis.
        size: pixels of the result.

    Returns:
        float32 [B,size,pixels]. A row sums to 1 unless a part of the box lies outside the image.
    """
    device = starts.device
    length = lengths.to(torch.float32)[:, None, None]
    scale = length / size
    centre = scale * (torch.arange(size, device=device, dtype=torch.float32) + 0.5)[None, :, None]
    # Pixel centres inside the box, from as far outside the image as any box reaches: a filter is normalised over its box.
    before = max(0, -int(starts.min()))
    after = max(0, int((starts + lengths).max()) - pixels)
    pixel = torch.arange(-before, pixels + after, device=device, dtype=torch.float32) + 0.5
    place = pixel[None, None, :] - starts.to(torch.float32)[:, None, None]
    inside = (place > 0) & (place < length)
    weights = (1 - (place - centre).abs_() / scale.clamp(min=1)).clamp_(min=0).mul_(inside)
    weights /= weights.sum(2, keepdim=True)
    return weights[:, :, before : before + pixels]


def render_crops(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Cut one box out of each image and resize it with antialiasing, on the device where the images are.

    Args:
        images: uint8 [B,3,H,W].
        boxes: [B,4] top, left, height, width in pixels; may reach beyond the image, where it is black.
        size: side of the result in pixels.

    Returns:
        float32 [B,3,size,size] in 0..1; `resized_crop(..., antialias=True)` of torchvision on each image.
    """
    batch, channels, height, width = images.shape
    boxes = boxes.to(images.device)
    step = batch if images.is_cuda else max(1, _CPU_WEIGHTS // (size * max(height, width)))
    out = torch.empty(batch, channels, size, size, device=images.device)
    for first in range(0, batch, step):
        part = slice(first, first + step)
        top, left, rows, columns = boxes[part].unbind(1)
        across = axis_weights(left, columns, width, size) / 255
        down = axis_weights(top, rows, height, size)
        pixels = images[part].float()
        cut = torch.bmm(pixels.view(-1, channels * height, width), across.transpose(1, 2))
        out[part] = torch.matmul(down[:, None], cut.view(-1, channels, height, size))
    return out
