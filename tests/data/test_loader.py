from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch

from wisp.data import cache
from wisp.data.loader import sample_order
from wisp.data.plans import PLANS
from wisp.data.sources import open_source
from wisp.errors import WispError

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)  # as the fixture `loader`
PLAN = PLANS["sacl_xd_imagenet"]


@pytest.fixture(params=["small", "mixed"])
def source(request):
    return request.getfixturevalue(request.param)


def test_batches_are_as_promised(source, loader):
    data = loader(source, labels=True)
    batches = list(data.epoch(0))
    assert data.steps_per_epoch == len(batches) == 2
    for batch in batches:
        assert [view.shape for view in batch.views] == [(8, 3, 24, 24)] * 2
        assert all(view.dtype == torch.float32 for view in batch.views)
        assert all(view.is_contiguous(memory_format=torch.channels_last) for view in batch.views)
        assert not torch.equal(*batch.views)
        assert batch.index.dtype == batch.labels.dtype == torch.int64
        assert torch.equal(batch.labels, batch.index % 2)
    shown = torch.cat([batch.index for batch in batches])
    assert len(shown.unique()) == 16
    assert data.waited > 0
    assert loader(source).epoch(0).__next__().labels is None


def test_plain_view_shows_the_right_picture(source, loader, same, pictures):
    """Without augmentation a batch is the evaluation's picture of the same index, whichever path made it."""
    plain = pictures([image.crop((0, 0, 28, 28)) for image in source.images])
    if max(source.images[-1].size) > 64:  # different sizes force the other path
        plain.images = [image.resize((65 + k, 65 + k)) for k, image in enumerate(source.images)]
    for batch in loader(plain, PLANS["plain"], image_size=28).epoch(0):
        for row, index in zip(batch.views[0], batch.index.tolist(), strict=True):
            whole = plain.read(index).float()[None] / 255
            scaled = torch.nn.functional.interpolate(whole, (28, 28), mode="bilinear", antialias=True)[0]
            expected = (scaled - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
            assert (row - expected).abs().max() < 1.2 / 255 / min(STD)  # two roundings to uint8


def test_small_images_are_decoded_once(small, loader):
    data = loader(small)
    assert small.reads == 20
    for epoch in range(3):
        list(data.epoch(epoch))
    assert small.reads == 20


def test_what_does_not_fit_the_memory_is_decoded_anew(small, monkeypatch, loader):
    monkeypatch.setattr(cache, "_BYTES", 20 * 3 * 32 * 32 - 1)
    data = loader(small)
    list(data.epoch(0))
    assert small.reads == 1 + 16


def test_order_and_views_depend_on_seed_and_epoch_only(source, loader, same):
    first = list(loader(source).epoch(1))
    torch.manual_seed(99)
    again = loader(source)
    list(again.epoch(0))
    assert all(map(same, first, again.epoch(1)))
    assert not any(map(same, first, again.epoch(2)))
    assert not any(map(same, first, loader(source, seed=6).epoch(1)))


def test_the_global_random_state_is_left_alone(source, loader):
    state = torch.get_rng_state()
    list(loader(source).epoch(0))
    assert torch.equal(torch.get_rng_state(), state)


def test_order_is_a_permutation():
    order = sample_order(1, 2, 1000)
    assert torch.equal(order.sort().values, torch.arange(1000))
    assert (order == sample_order(1, 3, 1000)).sum() < 20


def test_epoch_resumes_in_the_middle(source, loader, same):
    whole = list(loader(source, batch_size=4).epoch(3))
    rest = list(loader(source, batch_size=4).epoch(3, start=2))
    assert len(rest) == len(whole) - 2 == 3
    assert all(map(same, whole[2:], rest))


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_the_global_batch(source, world, loader):
    whole = list(loader(source).epoch(0))
    ranks = [list(loader(source, rank=rank, world=world).epoch(0)) for rank in range(world)]
    for step, batch in enumerate(whole):
        parts = [batches[step] for batches in ranks]
        assert torch.equal(torch.cat([part.index for part in parts]), batch.index)
        for v, view in enumerate(batch.views):
            assert torch.equal(torch.cat([part.views[v] for part in parts]), view)


@pytest.mark.parametrize("workers", [0, 2])
def test_corrupt_images_are_replaced_and_named(mixed, workers, loader):
    good = list(loader(mixed, labels=True).epoch(0))
    mixed.bad = (3, 4, 19)
    data = loader(mixed, workers=workers, labels=True)
    try:
        damaged = list(data.epoch(0))
    finally:
        data.close()
    shown = {3: 5, 4: 5, 19: 0}
    for before, after in zip(good, damaged, strict=True):
        expected = [shown.get(index, index) for index in before.index.tolist()]
        assert after.index.tolist() == expected
        assert after.labels.tolist() == [index % 2 for index in expected]
        kept = before.index == after.index
        assert torch.equal(before.views[0][kept], after.views[0][kept])
    met = {index for batch in good for index in batch.index.tolist()} & {3, 4, 19}
    assert met
    assert set(data.replaced) >= {f"pic {index}: broken" for index in met}


def test_corrupt_small_images_are_replaced_and_named(small, loader):
    good = torch.stack([small.read(index) for index in range(20)])
    small.bad = (3, 4, 19)
    data = loader(small, PLANS["plain"], image_size=32, batch_size=20)
    batch = next(data.epoch(0))
    assert data.replaced == ["pic 3: broken", "pic 4: broken", "pic 19: broken"]
    assert sorted(batch.index.tolist()) == sorted([0, 1, 2, 5, 5, 5, *range(6, 19), 0])
    pixels = batch.views[0] * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    assert (pixels * 255 - good[batch.index]).abs().max() < 0.01


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_remembered_comes_with_the_image_that_is_shown(source, workers, loader):
    """In half precision, as it is kept; a corrupt image takes what belongs to its replacement."""
    rows = torch.randn(20, 6, generator=torch.Generator().manual_seed(0)).half()
    source.bad = (3, 4, 19)
    ranks = [loader(source, remembered=rows, workers=workers, rank=rank, world=2) for rank in range(2)]
    for batch in [batch for rank in ranks for batch in rank.epoch(0)]:
        assert batch.remembered.dtype == torch.float32
        assert torch.equal(batch.remembered, rows[batch.index].float())
    assert next(loader(source).epoch(0)).remembered is None


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_corrupt_images_stop_the_run(picture, workers, loader, pictures):
    source = pictures([picture(k, 70 + k, 80) for k in range(30)], bad=tuple(range(2, 24, 2)))
    data = loader(source, workers=workers)
    with pytest.raises(
        WispError, match=r"11 of 30 images cannot be read \(pic 2: broken, .* and 8 more\): `wisp check"
    ):
        list(itertools.chain(*(data.epoch(epoch) for epoch in range(4))))
    data.close()


def test_too_many_corrupt_small_images_stop_before_training(picture, loader, pictures):
    source = pictures([picture(k, 32, 32) for k in range(30)], bad=tuple(range(11)))
    with pytest.raises(WispError, match="11 of 30 images cannot be read"):
        loader(source)


@pytest.mark.parametrize("side", [32, 80])
def test_nothing_readable(picture, side, loader, pictures):
    source = pictures([picture(k, side, side) for k in range(9)], bad=tuple(range(9)))
    with pytest.raises(WispError, match=r"no readable image left \(pic 0: broken"):
        next(loader(source).epoch(0))


def test_wrong_sizes_are_refused(small, loader):
    with pytest.raises(WispError, match="batch size 21 does not fit 20 images: choose 1 to 20"):
        loader(small, batch_size=21)
    with pytest.raises(WispError, match="batch size 9 cannot be shared by 2 processes"):
        loader(small, batch_size=9, world=2)
    small.classes = None
    with pytest.raises(WispError, match="these images have no labels"):
        loader(small, labels=True)


def test_progress_of_decoding(picture, monkeypatch, loader, pictures):
    monkeypatch.setattr(cache, "_NEWS", 6)
    calls = []
    loader(pictures([picture(k, 32, 32) for k in range(20)]), progress=lambda done, of: calls.append((done, of)))
    assert calls == [(6, 20), (12, 20), (18, 20)]


def test_large_photos_are_decoded_small_enough(tmp_path, encoded, picture, loader, same):
    """Reduced decoding must not show: crops of a large JPEG are close to those of the same pixels as PNG."""
    big = picture(0, 640, 480)
    for kind, folder in (("PNG", "a"), ("JPEG", "b")):
        (tmp_path / folder).mkdir()
        for k in range(4):
            data = encoded(big, kind, **({"quality": 97} if kind == "JPEG" else {}))
            (tmp_path / folder / f"{k}.{kind.lower()}").write_bytes(data)
    plan = replace(
        PLAN, views=tuple(replace(view, jitter=0.0, gray=0.0, blur=0.0, solarize=0.0) for view in PLAN.views)
    )
    png, jpeg = (next(loader(open_source(str(tmp_path / f)), plan, batch_size=4).epoch(0)) for f in "ab")
    for one, other in zip(png.views, jpeg.views, strict=True):
        assert (one - other).abs().mean() < 0.03
    assert not torch.equal(png.views[0], jpeg.views[0])
