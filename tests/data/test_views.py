"""What is drawn depends on (seed, step) alone; what is rendered is torchvision's chain of the same parameters."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from wisp.data import views as V
from wisp.data.crops import render_crops
from wisp.data.ops import blur_size
from wisp.data.plans import PLANS

EVERYTHING = V.View(
    crop_scale=(0.2, 1.0),
    flip=0.5,
    jitter=0.7,
    brightness=0.4,
    contrast=0.4,
    saturation=0.3,
    hue=0.2,
    gray=0.3,
    blur=0.5,
    solarize=0.3,
    shift=0.1,
)
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def one(view: V.View, batch: int, seed: int = 0, step: int = 0) -> V.Draws:
    return V.draw(V.ViewPlan("one", "test", (view,)), seed=seed, step=step, batch=batch)[0]


def same(a: V.Draws, b: V.Draws) -> bool:
    pairs = ((value, vars(b)[name]) for name, value in vars(a).items())
    return all(torch.equal(x, y) if isinstance(x, Tensor) else x == y for x, y in pairs)


def noise(count: int, height: int, width: int) -> Tensor:
    return torch.randint(
        0, 256, (count, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(6)
    )


def test_draws_follow_from_seed_and_step() -> None:
    torch.manual_seed(1)
    first = one(EVERYTHING, 16, seed=3, step=7)
    torch.manual_seed(2)
    assert same(first, one(EVERYTHING, 16, seed=3, step=7))
    for other in (one(EVERYTHING, 16, seed=3, step=8), one(EVERYTHING, 16, seed=4, step=7)):
        assert not same(first, other)
        assert not torch.equal(first.sides, other.sides)


def test_seed_and_step_are_not_interchangeable() -> None:
    draws = [one(EVERYTHING, 4, seed=seed, step=step) for seed in range(6) for step in range(6)]
    assert len({d.sides[0, 0, 0].item() for d in draws}) == 36


def test_the_global_random_state_is_left_alone() -> None:
    state = torch.get_rng_state()
    one(EVERYTHING, 4)
    assert torch.equal(state, torch.get_rng_state())


def test_views_of_a_step_differ() -> None:
    first, second = V.draw(V.ViewPlan("two", "test", (EVERYTHING,) * 2), seed=0, step=0, batch=8)
    assert not torch.equal(first.sides, second.sides)
    assert not torch.equal(first.factors, second.factors)


def test_a_slice_is_those_samples_own() -> None:
    draws = one(EVERYTHING, 12)
    part = draws[4:9]
    assert len(part) == 5
    box = V.boxes(draws, 40, 30)
    assert torch.equal(V.boxes(part, 40, 30), box[4:9])
    index = torch.tensor([7, 2, 2])
    assert torch.equal(V.boxes(draws[index], 40, 30), box[index])
    for name, value in vars(draws).items():
        if isinstance(value, Tensor):
            assert len(value) == 12
            assert torch.equal(getattr(part, name), value[4:9])


def test_switching_an_operation_off_leaves_the_others_draws() -> None:
    full, less = one(EVERYTHING, 64), one(replace(EVERYTHING, flip=0.0, jitter=0.0, blur=0.0), 64)
    assert not less.flip.any()
    for name in ("sides", "place", "order", "factors", "gray", "sigma", "solarize"):
        assert torch.equal(getattr(full, name), getattr(less, name))


def test_draws_have_the_probabilities_and_ranges_of_the_view() -> None:
    n = 20000
    draws = one(EVERYTHING, n)
    for name in ("flip", "jitter", "gray", "blur", "solarize"):
        p = getattr(EVERYTHING, name)
        assert abs(getattr(draws, name).double().mean().item() - p) < 4 * math.sqrt(p * (1 - p) / n)
    low = torch.tensor([0.6, 0.6, 0.7, -0.2])
    high = torch.tensor([1.4, 1.4, 1.3, 0.2])
    scaled = (draws.factors - low) / (high - low)
    assert (scaled.amin(0) >= 0).all()
    assert (scaled.amax(0) <= 1).all()
    torch.testing.assert_close(scaled.mean(0), torch.full((4,), 0.5), rtol=0, atol=0.02)
    assert 0.1 <= draws.sigma.min() < 0.11
    assert 1.99 < draws.sigma.max() <= 2.0
    assert draws.shift.abs().max() <= 0.1
    assert torch.equal(draws.order.sort(dim=1).values, torch.arange(4).expand(n, 4))
    counts = torch.bincount((draws.order * torch.tensor([64, 16, 4, 1])).sum(1), minlength=256)
    assert (counts > 0).sum() == 24
    assert counts[counts > 0].min() > n / 24 * 0.8


def test_certain_and_impossible() -> None:
    draws = one(replace(EVERYTHING, flip=1.0, gray=0.0), 500)
    assert draws.flip.all()
    assert not draws.gray.any()


def reference_box(draws: V.Draws, i: int, height: int, width: int) -> list[int]:
    """RandomResizedCrop.get_params as its documentation says it, fed with the draws."""
    for tall, wide in draws.sides[i].tolist():
        area, ratio = tall * wide, wide / tall
        w = round(math.sqrt(area * height * width * ratio))
        h = round(math.sqrt(area * height * width / ratio))
        if 0 < w <= width and 0 < h <= height:
            up, left = draws.place[i].tolist()
            return [int(up * (height - h + 1)), int(left * (width - w + 1)), h, w]
    w, h = width, height
    if width / height < draws.ratios[0]:
        h = round(width / draws.ratios[0])
    elif width / height > draws.ratios[1]:
        w = round(height * draws.ratios[1])
    return [(height - h) // 2, (width - w) // 2, h, w]


@pytest.mark.parametrize(("height", "width"), [(32, 32), (50, 37), (30, 300), (300, 30), (20, 27), (1, 1)])
def test_boxes_follow_the_rule(height: int, width: int) -> None:
    draws = one(V.View(), 200)
    expected = [reference_box(draws, i, height, width) for i in range(200)]
    assert V.boxes(draws, height, width).tolist() == expected


def test_boxes_of_many_sizes_at_once() -> None:
    draws = one(V.View(crop_scale=(0.9, 1.0)), 100)  # long images: ten attempts fail, the centre is taken
    heights = torch.randint(1, 400, (100,), generator=torch.Generator().manual_seed(7))
    widths = heights.flip(0)
    expected = [
        reference_box(draws, i, h, w) for i, (h, w) in enumerate(zip(heights.tolist(), widths.tolist(), strict=True))
    ]
    assert V.boxes(draws, heights, widths).tolist() == expected


def test_boxes_fill_scale_ratio_and_place() -> None:
    h, w = V.boxes(one(V.View(crop_scale=(0.2, 0.8)), 4000), 1000, 1000)[:, 2:].double().unbind(1)
    area = h * w / 1e6
    assert 0.19 < area.min() < 0.22
    assert 0.78 < area.max() < 0.81
    assert 0.74 < (w / h).min() < 0.76
    assert 1.32 < (w / h).max() < 1.35
    assert abs((w / h).log().mean()) < 0.02
    boxes = V.boxes(one(V.View(), 4000), 10, 10)
    assert boxes[:, :2].min() == 0
    assert (boxes[:, :2] + boxes[:, 2:]).max() == 10
    assert (boxes[:, 0] + boxes[:, 2] == 10).any()


def test_plain_is_the_central_square() -> None:
    draws = one(PLANS["plain"].views[0], 2)
    assert V.boxes(draws, 30, 50).tolist() == [[0, 10, 30, 30]] * 2
    assert V.boxes(draws, torch.tensor([64, 51]), torch.tensor([64, 30])).tolist() == [[0, 0, 64, 64], [10, 0, 30, 30]]


def test_shift_moves_the_box_by_at_most_its_fraction() -> None:
    still, moved = (V.boxes(one(V.View(shift=s), 500), 100, 100) for s in (0.0, 0.1))
    assert torch.equal(still[:, 2:], moved[:, 2:])
    by = (moved - still)[:, :2] / still[:, 2:]
    assert by.abs().max() <= 0.1 + 0.5 / still[:, 2:].min()
    assert by.min() < -0.05
    assert by.max() > 0.05
    assert moved[:, :2].min() < 0


def test_pad_crop_is_a_crop_of_the_padded_image() -> None:
    """He et al. 2016: four black pixels on each side of 32, then any of the nine places on either axis."""
    draws = one(replace(PLANS["pad_crop"].views[0], flip=0.0), 900)
    boxes = V.boxes(draws, 32, 32)
    assert (boxes[:, 2:] == 32).all()
    for axis in (0, 1):
        counts = torch.bincount(boxes[:, axis] + 4, minlength=9)
        assert len(counts) == 9
        assert counts.min() > 60
        assert counts.max() < 145
    images = noise(16, 32, 32)
    padded, places = F.pad(images, [4, 4, 4, 4]), (boxes[:16] + torch.tensor([4, 4, 0, 0])).tolist()
    expected = torch.stack([F.crop(x, *box) for x, box in zip(padded, places, strict=True)])
    torch.testing.assert_close(render_crops(images, boxes[:16], 32), expected / 255, rtol=0, atol=1e-6)


def reference_photometric(x: Tensor, view: V.View, draws: V.Draws, i: int) -> Tensor:
    if draws.flip[i]:
        x = F.horizontal_flip(x)
    if draws.jitter[i]:
        functionals = [F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue]
        for operation in draws.order[i].tolist():
            x = functionals[operation](x, draws.factors[i, operation].item())
    if draws.gray[i]:
        x = F.rgb_to_grayscale(x, 3)
    if draws.blur[i]:
        taps, sigma = blur_size(x.shape[-1]), draws.sigma[i].item()
        x = F.gaussian_blur(x, [taps, taps], [sigma, sigma])
    if draws.solarize[i]:
        x = F.solarize(x, view.solarize_threshold)
    return x


@pytest.mark.parametrize(("size", "batch"), [(24, 300), (72, 24)])
def test_photometric_is_torchvisions_chain(size: int, batch: int) -> None:
    draws = one(EVERYTHING, batch)
    x = torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(8))
    before = x.clone()
    actual = V.photometric(x, EVERYTHING, draws)
    assert torch.equal(x, before)
    expected = torch.stack([reference_photometric(x[i], EVERYTHING, draws, i) for i in range(batch)])
    # Solarising sends two values that differ in the last bit to two sides: no more than a handful of pixels.
    differ = (actual - expected).abs() > 1e-5
    assert differ.double().mean() < 1e-5


def test_without_solarise_no_pixel_differs() -> None:
    view = replace(EVERYTHING, solarize=0.0)
    draws = one(view, 200)
    x = torch.rand(200, 3, 16, 16, generator=torch.Generator().manual_seed(9))
    expected = torch.stack([reference_photometric(x[i], view, draws, i) for i in range(200)])
    torch.testing.assert_close(V.photometric(x, view, draws), expected, rtol=0, atol=1e-5)


def test_solarise_threshold_is_128_of_8_bits() -> None:
    view = V.View(solarize=1.0)
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    actual = V.render(levels, None, view, one(view, 1), size=16, mean=(0, 0, 0), std=(1, 1, 1))
    expected = F.solarize(levels, 128).float() / 255
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)


def test_a_view_with_everything_off_changes_nothing() -> None:
    x = torch.rand(5, 3, 16, 16)
    assert torch.equal(V.photometric(x, V.View(), one(V.View(), 5)), x)


def test_a_sample_does_not_depend_on_its_batch() -> None:
    """Ranks and batch sizes cut the batch differently; each sample's view must stay the same."""
    draws = one(EVERYTHING, 64)
    images = noise(64, 40, 40)
    whole = V.photometric(V.render_crops(images, V.boxes(draws, 40, 40), 32), EVERYTHING, draws)
    for part in (slice(0, 32), slice(32, 64), slice(5, 6)):
        own = V.render_crops(images[part], V.boxes(draws[part], 40, 40), 32)
        torch.testing.assert_close(
            V.photometric(own, EVERYTHING, draws[part]), whole[part], rtol=0, atol=1e-6, msg=f"{part}"
        )


def test_normalize() -> None:
    x = torch.rand(2, 3, 8, 8)
    before = x.clone()
    actual = V.normalize(x, MEAN, STD)
    assert torch.equal(x, before)
    assert actual.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(actual, F.normalize(x, list(MEAN), list(STD)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, 32), (90, 70, 64)])
def test_render_is_the_chain_of_its_parts(height: int, width: int, size: int) -> None:
    draws, images = one(EVERYTHING, 40), noise(40, height, width)
    boxes = V.boxes(draws, height, width)
    crops = V.render_crops(images, boxes, size)
    actual = V.render(images, boxes, EVERYTHING, draws, size=size, mean=MEAN, std=STD)
    assert actual.is_contiguous(memory_format=torch.channels_last)
    chain = V.normalize(V.photometric(crops, EVERYTHING, draws), MEAN, STD)
    torch.testing.assert_close(actual, chain, rtol=0, atol=1e-5)


def test_all_work_is_done_where_the_images_are() -> None:
    """On the meta device a stray CPU tensor among the pixels raises, as it would on a GPU."""
    draws, images = one(EVERYTHING, 20), noise(20, 80, 80).to("meta")
    rendered = V.render(images, V.boxes(draws, 80, 80), EVERYTHING, draws, size=64, mean=MEAN, std=STD)
    assert (rendered.device.type, rendered.shape) == ("meta", (20, 3, 64, 64))
    chain = V.normalize(V.photometric(images.float(), EVERYTHING, draws), MEAN, STD)
    assert (chain.device.type, chain.shape) == ("meta", (20, 3, 80, 80))


def test_render_of_images_that_are_cut_already() -> None:
    draws, images = one(EVERYTHING, 20), noise(20, 24, 24)
    actual = V.render(images, None, EVERYTHING, draws, size=24, mean=MEAN, std=STD)
    chain = V.normalize(V.photometric(images.float() / 255, EVERYTHING, draws), MEAN, STD)
    torch.testing.assert_close(actual, chain, rtol=0, atol=1e-5)
