"""A plan of several sides obeys the laws of all plans, and each view is torchvision's of its box at its own side."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from wisp.data.cutter import Cutter, Drawing, Task, least_side
from wisp.data.draws import View, ViewPlan, boxes, draw
from wisp.data.layout import Layout
from wisp.data.ops import blur_size
from wisp.data.plans import PLANS
from wisp.data.views import render

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)  # as the fixture `loader`
PLAN = PLANS["multicrop_small"]
SIDES = [24, 24, 12, 12, 12, 12]


@pytest.fixture(params=["small", "mixed"])
def source(request):
    return request.getfixturevalue(request.param)


def uncoloured(view: View) -> View:
    return replace(view, jitter=0.0, gray=0.0, blur=0.0, solarize=0.0)


def reference(image: Tensor, box: list[int], flip: bool, side: int) -> Tensor:
    """One view without colour changes by torchvision, from a float image [3,H,W] in 0..1."""
    x = F.resized_crop(image, *box, [side, side], antialias=True)
    return F.normalize(F.horizontal_flip(x) if flip else x, list(MEAN), list(STD))


@pytest.mark.parametrize(
    ("side", "image_size", "pixels"),
    [(1.0, 224, 224), (96 / 224, 224, 96), (96 / 224, 32, 14), (96 / 224, 160, 69), (0.5, 33, 17), (0.5, 35, 18)],
)
def test_a_view_has_its_part_of_the_image_size(side: float, image_size: int, pixels: int) -> None:
    view = View(side=side)
    assert view.pixels(image_size) == pixels
    assert ViewPlan("one", "test", (View(), view)).pixels(image_size) == (image_size, pixels)


def test_local_crops_leave_the_draws_alone() -> None:
    full = replace(PLAN, views=tuple(replace(view, side=1.0) for view in PLAN.views))
    for one, other in zip(*(draw(plan, seed=1, step=2, batch=4) for plan in (PLAN, full)), strict=True):
        assert torch.equal(one.sides, other.sides)
        assert torch.equal(one.factors, other.factors)


def test_every_view_is_torchvisions_at_its_own_side() -> None:
    images = torch.randint(0, 256, (9, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    plan = replace(PLAN, views=tuple(map(uncoloured, PLAN.views)))
    for view, draws, side in zip(plan.views, draw(plan, seed=0, step=0, batch=9), SIDES, strict=True):
        at = boxes(draws, 40, 40)
        actual = render(images, at, view, draws, size=24, mean=MEAN, std=STD)
        assert actual.shape == (9, 3, side, side)
        rows = zip(images.float() / 255, at.tolist(), draws.flip.tolist(), strict=True)
        expected = torch.stack([reference(image, box, flip, side) for image, box, flip in rows])
        torch.testing.assert_close(actual, expected, rtol=0, atol=5e-5)


def test_the_blur_is_that_of_the_views_own_side() -> None:
    view = replace(uncoloured(PLAN.views[-1]), crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=0.0, blur=1.0)
    draws = draw(ViewPlan("blurred", "test", (view,)), seed=0, step=0, batch=5)[0]
    images = torch.randint(0, 256, (5, 3, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    actual = render(images, None, view, draws, size=96, mean=(0, 0, 0), std=(1, 1, 1))
    taps = [blur_size(48)] * 2
    assert taps == [5, 5]
    assert blur_size(96) == 9
    rows = zip(images.float() / 255, draws.sigma.tolist(), strict=True)
    expected = torch.stack([F.gaussian_blur(image, taps, [sigma, sigma]) for image, sigma in rows])
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


def test_batches_have_every_views_side(source, loader):
    for batch in loader(source, PLAN).epoch(0):
        assert [view.shape for view in batch.views] == [(8, 3, side, side) for side in SIDES]
        assert all(view.is_contiguous(memory_format=torch.channels_last) for view in batch.views)
        assert not torch.equal(batch.views[4], batch.views[5])


def test_batches_show_the_drawn_boxes(source, loader):
    """Whichever path made them: in float32 from memory, rounded once to 8 bits by a worker."""
    plan = replace(PLAN, views=tuple(map(uncoloured, PLAN.views)))
    batch = next(loader(source, plan).epoch(0))
    for v, draws in enumerate(draw(plan, seed=5, step=0, batch=8)):
        for row, index in enumerate(batch.index.tolist()):
            image = source.read(index).float() / 255
            box = boxes(draws[row : row + 1], *image.shape[1:])[0].tolist()
            expected = reference(image, box, bool(draws.flip[row]), SIDES[v])
            assert (batch.views[v][row] - expected).abs().max() < 1.2 / 255 / min(STD)


def test_views_depend_on_seed_and_epoch_only(source, loader, same):
    first = list(loader(source, PLAN).epoch(1))
    torch.manual_seed(99)
    assert all(map(same, first, loader(source, PLAN).epoch(1)))
    assert not any(map(same, first, loader(source, PLAN, seed=6).epoch(1)))
    assert same(first[1], next(loader(source, PLAN).epoch(1, start=1)))


def test_ranks_share_the_global_batch(source, loader):
    ranks = [loader(source, PLAN, rank=rank, world=2).epoch(0) for rank in range(2)]
    for batch, *parts in zip(loader(source, PLAN).epoch(0), *ranks, strict=True):
        for v, view in enumerate(batch.views):
            assert torch.equal(torch.cat([part.views[v] for part in parts]), view)


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing(mixed, workers, loader, same):
    helped = loader(mixed, PLAN, batch_size=4, workers=workers)
    try:
        batches = list(helped.epoch(0))  # five batches in three slots: each slot is written again
        assert len(batches) == 5
        assert all(map(same, loader(mixed, PLAN, batch_size=4).epoch(0), batches))
    finally:
        helped.close()


def test_a_workers_part_leaves_the_rest_alone(mixed):
    layout = Layout(4, PLAN.pixels(24))
    block = torch.full((layout.numbers,), 7, dtype=torch.uint8)
    views = layout.views(block)
    assert Cutter(mixed, Drawing(PLAN, 0, 4, slice(0, 4)), 24).cut(Task([0, 1, 2, 3], 0), slice(1, 3), views).index
    for view in views:
        assert (view[0] == 7).all()
        assert (view[3] == 7).all()
        assert (view[1:3] != 7).any()


def test_a_layout_is_one_block_without_gaps() -> None:
    layout = Layout(2, (4, 4, 3))
    assert layout.numbers == 2 * 3 * (16 + 16 + 9)
    block = torch.arange(layout.numbers)
    views = layout.views(block)
    assert [view.shape for view in views] == [(2, 3, 4, 4), (2, 3, 4, 4), (2, 3, 3, 3)]
    assert torch.equal(torch.cat([view.flatten() for view in views]), block)
    assert all(view.untyped_storage().data_ptr() == block.untyped_storage().data_ptr() for view in views)


def test_images_are_decoded_for_the_view_that_needs_most() -> None:
    """SwAV: 224 px of a seventh of the area need more of an image than 96 px of a twentieth."""
    swav = PLANS["swav"]
    assert least_side(swav, 224) == least_side(replace(swav, views=swav.views[:2]), 224) == 692
    assert least_side(replace(swav, views=swav.views[2:]), 224) == 496
    tiny = replace(PLAN, views=(*PLAN.views[:2], replace(PLAN.views[2], crop_scale=(0.01, 0.02))))
    assert least_side(tiny, 32) == 185
