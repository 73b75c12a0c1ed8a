"""Cutting and resizing equal torchvision's antialiased `resized_crop`, in float32 and in 8 bits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from wisp.data import crops
from wisp.data.crops import axis_weights, crop, render_crops

TOLERANCE = 5e-6  # of 0..1; in float32 torchvision's own weights are 2e-6 away from float64


def some_boxes(count: int, height: int, width: int, beyond: int = 0) -> Tensor:
    """Random boxes; with `beyond`, some reach that many pixels out of the image on every side."""
    generator = torch.Generator().manual_seed(4)
    sides = torch.tensor([height, width])
    size = 1 + (torch.rand(count, 2, generator=generator) * sides).long()
    corner = (torch.rand(count, 2, generator=generator) * (sides - size + 1)).long()
    corner += torch.randint(-beyond, beyond + 1, (count, 2), generator=generator)
    boxes = torch.cat([corner, size], dim=1)
    boxes[0] = torch.tensor([0, 0, height, width])
    boxes[1] = torch.tensor([-beyond, -beyond, height + 2 * beyond, width + 2 * beyond])
    return boxes


def noise(count: int, height: int, width: int) -> Tensor:
    return torch.randint(
        0, 256, (count, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(5)
    )


def resized_crops(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    pairs = zip(images, boxes.tolist(), strict=True)
    return torch.stack([F.resized_crop(image, *box, [size, size], antialias=True) for image, box in pairs])


@pytest.mark.parametrize("beyond", [0, 5])
@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, 32), (28, 28, 32), (40, 30, 16), (9, 60, 24)])
def test_render_crops(height: int, width: int, size: int, beyond: int) -> None:
    images, boxes = noise(12, height, width), some_boxes(12, height, width, beyond)
    expected = resized_crops(images.float() / 255, boxes, size)
    torch.testing.assert_close(render_crops(images, boxes, size), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("beyond", [0, 5])
@pytest.mark.parametrize(("height", "width", "size"), [(90, 70, 48), (64, 64, 80)])
def test_render_crops_of_large_images(height: int, width: int, size: int, beyond: int) -> None:
    images, boxes = noise(12, height, width), some_boxes(12, height, width, beyond)
    actual = render_crops(images, boxes, size)
    torch.testing.assert_close(actual, resized_crops(images, boxes, size).float() / 255, rtol=0, atol=1e-7)
    exact = resized_crops(images.float() / 255, boxes, size)
    assert (actual - exact).abs().max() <= 1.2 / 255


def test_matrices_hold_for_large_images_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU has no other path."""
    monkeypatch.setattr(crops, "_SMALL", 1 << 30)
    images, boxes = noise(6, 90, 70), some_boxes(6, 90, 70, beyond=3)
    expected = resized_crops(images.float() / 255, boxes, 56)
    torch.testing.assert_close(render_crops(images, boxes, 56), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("beyond", [0, 5])
@pytest.mark.parametrize(("height", "width", "size"), [(120, 90, 32), (20, 30, 48), (48, 48, 48)])
def test_crop_of_one_image(height: int, width: int, size: int, beyond: int) -> None:
    image = noise(1, height, width)[0]
    for box in some_boxes(8, height, width, beyond):
        actual = crop(image, box, size)
        assert actual.dtype == torch.uint8
        assert actual.is_contiguous()
        expected = F.resized_crop(image, *box.tolist(), [size, size], antialias=True)
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def test_a_box_of_the_output_size_is_copied_exactly() -> None:
    images = noise(3, 40, 40)
    boxes = torch.tensor([[3, 5, 32, 32]] * 3)
    cut = images[:, :, 3:35, 5:37]
    torch.testing.assert_close(render_crops(images, boxes, 32), cut.float() / 255, rtol=0, atol=1e-7)
    assert torch.equal(crop(images[0], boxes[0], 32), cut[0])


def test_weights_sum_to_one_inside_and_to_less_outside() -> None:
    starts, lengths = torch.tensor([2, -4]), torch.tensor([10, 12])
    sums = axis_weights(starts, lengths, 16, 8).sum(2)
    torch.testing.assert_close(sums[0], torch.ones(8))
    assert sums[1, 0] == 0
    torch.testing.assert_close(sums[1, -1], torch.tensor(1.0))
