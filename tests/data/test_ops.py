"""Every operation equals torchvision's functional of the same parameter, sample by sample, in float32."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from wisp.data import ops

TOLERANCE = 2e-6  # of 0..1: a thousandth of an 8-bit step


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Noise, smooth colours, and the corners of the colour cube, where hue and chroma have their ties."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.rand(20, 3, 24, 20, generator=generator)
    smooth = F.resize(torch.rand(12, 3, 3, 3, generator=generator), [24, 20])
    corners = torch.tensor(list(itertools.product([0.0, 0.5, 1.0], repeat=3))).T.reshape(1, 3, 27, 1)
    corners = corners.repeat(1, 1, 1, 20)[:, :, :24]
    grey = torch.rand(2, 1, 24, 20, generator=generator).expand(-1, 3, -1, -1)
    return torch.cat([noise, smooth, corners, grey, (noise[:5] * 255).round() / 255])


def uniform(images: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(len(images), generator=torch.Generator().manual_seed(2))


def blend(x: Tensor, operation: int, factor: Tensor) -> Tensor:
    return ops.blend_(x, ops.blend_weights(torch.full((len(x),), operation), factor))


@pytest.mark.parametrize(
    ("operation", "functional"),
    [
        (ops.BRIGHTNESS, F.adjust_brightness),
        (ops.CONTRAST, F.adjust_contrast),
        (ops.SATURATION, F.adjust_saturation),
    ],
)
def test_blends(images: Tensor, operation: int, functional) -> None:
    factor = uniform(images, 0.0, 2.0)
    expected = torch.stack([functional(x, f) for x, f in zip(images, factor.tolist(), strict=True)])
    torch.testing.assert_close(blend(images.clone(), operation, factor), expected, rtol=0, atol=TOLERANCE)


def test_blends_can_differ_within_a_batch(images: Tensor) -> None:
    operation = torch.arange(len(images)) % 3
    factor = uniform(images, 0.5, 1.5)
    functionals = [F.adjust_brightness, F.adjust_contrast, F.adjust_saturation]
    expected = torch.stack(
        [functionals[o](x, f) for x, o, f in zip(images, operation.tolist(), factor.tolist(), strict=True)]
    )
    actual = ops.blend_(images.clone(), ops.blend_weights(operation, factor))
    torch.testing.assert_close(actual, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("strength", [0.0, 0.1, 0.5])
def test_hue(images: Tensor, strength: float) -> None:
    shift = uniform(images, -strength, strength)
    expected = torch.stack([F.adjust_hue(x, s) for x, s in zip(images, shift.tolist(), strict=True)])
    torch.testing.assert_close(ops.hue_(images.clone(), shift), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_jitter_in_every_order(images: Tensor, order: tuple[int, ...]) -> None:
    factors = torch.stack([uniform(images, 0.6, 1.4)] * 3 + [uniform(images, -0.1, 0.1)], dim=1)
    functionals = [F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue]
    expected = images[::4]
    for operation in order:
        expected = torch.stack(
            [functionals[operation](x, f[operation].item()) for x, f in zip(expected, factors[::4], strict=True)]
        )
    orders = torch.tensor(order).expand(len(expected), 4)
    actual = ops.jitter_(images[::4].clone(), orders, factors[::4])
    torch.testing.assert_close(actual, expected, rtol=0, atol=2 * TOLERANCE)


def test_luma(images: Tensor) -> None:
    torch.testing.assert_close(ops.luma(images), F.rgb_to_grayscale(images), rtol=0, atol=TOLERANCE)


def test_blur_size_is_a_tenth_and_odd() -> None:
    assert [ops.blur_size(size) for size in (8, 28, 32, 64, 96, 224, 384)] == [3, 3, 3, 7, 9, 23, 39]


@pytest.mark.parametrize("size", [8, 32, 64, 224])
def test_blur(size: int) -> None:
    x = torch.rand(6, 3, size, size, generator=torch.Generator().manual_seed(3))
    sigma = torch.tensor([0.1, 0.3, 0.7, 1.1, 1.9, 2.0])
    taps = ops.blur_size(size)
    expected = torch.stack([F.gaussian_blur(y, [taps, taps], [s, s]) for y, s in zip(x, sigma.tolist(), strict=True)])
    torch.testing.assert_close(ops.blur(x, sigma), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("limit", [0.0, 0.5, 128 / 255, 1.0])
def test_solarize(images: Tensor, limit: float) -> None:
    at_the_limit = torch.full_like(images[:1], limit)
    just_below = torch.nextafter(at_the_limit, torch.tensor(-1.0)).clamp(min=0)
    x = torch.cat([images, at_the_limit, just_below])
    torch.testing.assert_close(ops.solarize_(x.clone(), limit), F.solarize(x, limit), rtol=0, atol=TOLERANCE)


def test_results_stay_between_0_and_1(images: Tensor) -> None:
    strong = torch.full((len(images),), 1.9)
    outputs = [
        blend(images.clone(), ops.BRIGHTNESS, strong),
        blend(images.clone(), ops.CONTRAST, strong),
        blend(images.clone(), ops.SATURATION, strong),
        ops.solarize_(images.clone(), 0.5),
    ]
    for out in outputs:
        assert out.min() >= 0
        assert out.max() <= 1
