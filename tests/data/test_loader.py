from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import subprocess
import time
from dataclasses import replace

import pytest
import torch
from PIL import Image

from wisp.data import cache
from wisp.data.loader import Batch, Loader, plain_batches, sample_order
from wisp.data.plans import PLANS
from wisp.data.sources import CorruptImage, Source, open_source
from wisp.data.sources.decode import to_rgb
from wisp.data.views import ViewPlan
from wisp.errors import WispError

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
PLAN = PLANS["sacl_xd_imagenet"]


class Pictures:
    """Colour pictures in memory; the indices in `bad` are corrupt."""

    def __init__(self, images: list[Image.Image], bad: tuple[int, ...] = ()) -> None:
        self.images, self.bad = images, bad
        self.classes = ("even", "odd")
        self.reads = 0

    def __len__(self) -> int:
        return len(self.images)

    def open(self, index: int) -> Image.Image:
        self.reads += 1
        if index in self.bad:
            raise CorruptImage(self.name(index), "broken")
        return self.images[index]

    def read(self, index: int) -> torch.Tensor:
        return to_rgb(self.open(index), lambda: self.name(index))

    def label(self, index: int) -> int:
        return index % 2

    def name(self, index: int) -> str:
        return f"pic {index}"


def loader(source: Source, plan: ViewPlan = PLAN, **changes: object) -> Loader:
    settings = {"image_size": 24, "mean": MEAN, "std": STD, "batch_size": 8, "seed": 5} | changes
    return Loader(source, plan, **settings)


def same(one: Batch, other: Batch) -> bool:
    views = zip(one.views, other.views, strict=True)
    return torch.equal(one.index, other.index) and all(torch.equal(a, b) for a, b in views)


@pytest.fixture
def small(picture):
    """20 pictures of 32 x 32: kept in memory."""
    return Pictures([picture(k, 32, 32) for k in range(20)])


@pytest.fixture
def mixed(picture):
    """20 pictures of many sizes: cut by workers."""
    return Pictures([picture(k, 70 + 5 * k, 120 - 3 * k) for k in range(20)])


@pytest.fixture(params=["small", "mixed"])
def source(request):
    return request.getfixturevalue(request.param)


def test_batches_are_as_promised(source):
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


def test_plain_view_shows_the_right_picture(source):
    """Without augmentation a batch is the evaluation's picture of the same index, whichever path made it."""
    plain = Pictures([image.crop((0, 0, 28, 28)) for image in source.images])
    if max(source.images[-1].size) > 64:  # different sizes force the other path
        plain.images = [image.resize((65 + k, 65 + k)) for k, image in enumerate(source.images)]
    for batch in loader(plain, PLANS["plain"], image_size=28).epoch(0):
        for row, index in zip(batch.views[0], batch.index.tolist(), strict=True):
            whole = plain.read(index).float()[None] / 255
            scaled = torch.nn.functional.interpolate(whole, (28, 28), mode="bilinear", antialias=True)[0]
            expected = (scaled - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
            assert (row - expected).abs().max() < 1.2 / 255 / min(STD)  # two roundings to uint8


def test_small_images_are_decoded_once(small):
    data = loader(small)
    assert small.reads == 20
    for epoch in range(3):
        list(data.epoch(epoch))
    assert small.reads == 20


def test_what_does_not_fit_the_memory_is_decoded_anew(small, monkeypatch):
    monkeypatch.setattr(cache, "_BYTES", 20 * 3 * 32 * 32 - 1)
    data = loader(small)
    list(data.epoch(0))
    assert small.reads == 1 + 16


def test_order_and_views_depend_on_seed_and_epoch_only(source):
    first = list(loader(source).epoch(1))
    torch.manual_seed(99)
    again = loader(source)
    list(again.epoch(0))
    assert all(map(same, first, again.epoch(1)))
    assert not any(map(same, first, again.epoch(2)))
    assert not any(map(same, first, loader(source, seed=6).epoch(1)))


def test_the_global_random_state_is_left_alone(source):
    state = torch.get_rng_state()
    list(loader(source).epoch(0))
    assert torch.equal(torch.get_rng_state(), state)


def test_order_is_a_permutation():
    order = sample_order(1, 2, 1000)
    assert torch.equal(order.sort().values, torch.arange(1000))
    assert (order == sample_order(1, 3, 1000)).sum() < 20


def test_epoch_resumes_in_the_middle(source):
    whole = list(loader(source, batch_size=4).epoch(3))
    rest = list(loader(source, batch_size=4).epoch(3, start=2))
    assert len(rest) == len(whole) - 2 == 3
    assert all(map(same, whole[2:], rest))


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_the_global_batch(source, world):
    whole = list(loader(source).epoch(0))
    ranks = [list(loader(source, rank=rank, world=world).epoch(0)) for rank in range(world)]
    for step, batch in enumerate(whole):
        parts = [batches[step] for batches in ranks]
        assert torch.equal(torch.cat([part.index for part in parts]), batch.index)
        for v, view in enumerate(batch.views):
            assert torch.equal(torch.cat([part.views[v] for part in parts]), view)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_change_nothing(mixed, workers):
    alone, helped = loader(mixed), loader(mixed, workers=workers)
    try:
        for epoch in (0, 1):
            batches = list(helped.epoch(epoch))
            assert len(batches) == 2
            assert all(map(same, alone.epoch(epoch), batches))
    finally:
        helped.close()


def test_an_epoch_may_be_left_early_with_workers(mixed):
    data = loader(mixed, batch_size=4, workers=2)
    try:
        next(data.epoch(0))
        assert all(map(same, loader(mixed, batch_size=4).epoch(1), data.epoch(1)))
    finally:
        data.close()


def test_two_epochs_at_once_are_noticed(mixed):
    """The workers answer in order: an old epoch that went on would show the new one's pictures."""
    data = loader(mixed, batch_size=4, workers=1)
    old, new = data.epoch(0), data.epoch(1)
    next(old)
    next(new)
    with pytest.raises(AssertionError, match="another one has begun"):
        next(old)
    data.close()


def test_more_workers_than_samples(mixed):
    data = loader(mixed, batch_size=2, workers=5)
    try:
        assert same(next(data.epoch(0)), next(loader(mixed, batch_size=2).epoch(0)))
    finally:
        data.close()


def test_small_images_need_no_workers(small):
    data = loader(small, workers=2)
    list(data.epoch(0))
    assert data._pool is None


@pytest.mark.parametrize("workers", [0, 2])
def test_corrupt_images_are_replaced_and_named(mixed, workers):
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


def test_corrupt_small_images_are_replaced_and_named(small):
    good = torch.stack([small.read(index) for index in range(20)])
    small.bad = (3, 4, 19)
    data = loader(small, PLANS["plain"], image_size=32, batch_size=20)
    batch = next(data.epoch(0))
    assert data.replaced == ["pic 3: broken", "pic 4: broken", "pic 19: broken"]
    assert sorted(batch.index.tolist()) == sorted([0, 1, 2, 5, 5, 5, *range(6, 19), 0])
    pixels = batch.views[0] * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    assert (pixels * 255 - good[batch.index]).abs().max() < 0.01


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_corrupt_images_stop_the_run(picture, workers):
    source = Pictures([picture(k, 70 + k, 80) for k in range(30)], bad=tuple(range(2, 24, 2)))
    data = loader(source, workers=workers)
    with pytest.raises(
        WispError, match=r"11 of 30 images cannot be read \(pic 2: broken, .* and 8 more\): `wisp check"
    ):
        list(itertools.chain(*(data.epoch(epoch) for epoch in range(4))))
    data.close()


def test_too_many_corrupt_small_images_stop_before_training(picture):
    source = Pictures([picture(k, 32, 32) for k in range(30)], bad=tuple(range(11)))
    with pytest.raises(WispError, match="11 of 30 images cannot be read"):
        loader(source)


@pytest.mark.parametrize("side", [32, 80])
def test_nothing_readable(picture, side):
    source = Pictures([picture(k, side, side) for k in range(9)], bad=tuple(range(9)))
    with pytest.raises(WispError, match=r"no readable image left \(pic 0: broken"):
        next(loader(source).epoch(0))


def test_wrong_sizes_are_refused(small):
    with pytest.raises(WispError, match="batch size 21 does not fit 20 images: choose 1 to 20"):
        loader(small, batch_size=21)
    with pytest.raises(WispError, match="batch size 9 cannot be shared by 2 processes"):
        loader(small, batch_size=9, world=2)
    small.classes = None
    with pytest.raises(WispError, match="these images have no labels"):
        loader(small, labels=True)


def test_a_killed_worker_is_one_line(mixed):
    data = loader(mixed, batch_size=2, workers=2)
    batches = data.epoch(0)
    next(batches)
    os.kill(data._pool._processes[1].pid, signal.SIGKILL)
    with pytest.raises(WispError, match="a data worker was killed"):
        list(batches)
    data.close()


def test_a_worker_that_trips_says_where(mixed):
    data = loader(mixed, workers=1)
    mixed.open = lambda index: 1 / 0  # a programming error, no corrupt file
    with pytest.raises(RuntimeError, match=r"data worker failed(.|\n)*ZeroDivisionError"):
        next(data.epoch(0))
    data.close()


def test_workers_ignore_interrupts_and_end_with_the_loader(mixed):
    data = loader(mixed, batch_size=4, workers=2)
    batches = data.epoch(0)
    next(batches)
    processes = list(data._pool._processes)
    for process in processes:
        os.kill(process.pid, signal.SIGINT)
    assert len(list(batches)) == 4
    assert all(process.is_alive() for process in processes)
    del batches, data
    assert not any(process.is_alive() for process in processes)


def test_workers_do_not_outlive_a_killed_parent(mixed):
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()

    def middle() -> None:
        data = loader(mixed, batch_size=4, workers=2)
        next(data.epoch(0))
        there.send([process.pid for process in data._pool._processes])
        time.sleep(60)

    parent = context.Process(target=middle)
    parent.start()
    there.close()  # a parent that fails is then an EOFError, not a test without end
    workers = here.recv()
    parent.kill()
    parent.join()
    until = time.monotonic() + 20
    while any(runs(pid) for pid in workers):
        assert time.monotonic() < until, "a worker lives on"
        time.sleep(0.02)


def runs(pid: int) -> bool:
    """Whether a process that is nobody's child here still does anything."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


def test_progress_of_decoding(picture, monkeypatch):
    monkeypatch.setattr(cache, "_NEWS", 6)
    calls = []
    loader(Pictures([picture(k, 32, 32) for k in range(20)]), progress=lambda done, of: calls.append((done, of)))
    assert calls == [(6, 20), (12, 20), (18, 20)]


def test_large_photos_are_decoded_small_enough(tmp_path, encoded, picture):
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


# evaluation


def evaluated(source: Source, indices: list[int], size: int, **changes: object) -> torch.Tensor:
    batches = list(plain_batches(source, indices, image_size=size, mean=MEAN, std=STD, batch_size=3, **changes))
    assert [len(batch) for batch in batches[:-1]] == [3] * (len(batches) - 1)
    return torch.cat(batches) * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]


def test_evaluation_leaves_small_images_as_they_are(small):
    indices = [4, 0, 19, 7]
    pixels = evaluated(small, indices, 32) * 255
    assert (pixels - torch.stack([small.read(index) for index in indices])).abs().max() < 0.01


@pytest.mark.parametrize("threads", [1, 3])
def test_evaluation_of_large_images_is_torchvisions(mixed, threads):
    from torchvision.transforms import v2

    reference = v2.Compose([v2.Resize(80, antialias=True), v2.CenterCrop(70)])
    indices = [3, 17, 0, 9, 12]
    torch.set_num_threads(threads)
    pixels = evaluated(mixed, indices, 70)
    expected = torch.stack([reference(mixed.read(index)) for index in indices])
    assert (pixels * 255 - expected).abs().max() < 0.01


def test_evaluation_shows_all_of_a_small_image_at_another_size(small):
    whole = small.read(2)[None]
    expected = torch.nn.functional.interpolate(whole, (24, 24), mode="bilinear", antialias=True)[0]
    assert (evaluated(small, [2], 24)[0] * 255 - expected).abs().max() < 0.01


def test_evaluation_replaces_within_the_class(small):
    good = evaluated(small, [0, 2, 4, 5, 7, 9], 32)
    small.bad = (2, 9)
    replaced: list[str] = []
    pixels = evaluated(small, [0, 2, 4, 5, 7, 9], 32, replaced=replaced)
    assert torch.equal(pixels, good[[0, 2, 2, 3, 4, 3]])
    assert replaced == ["pic 2: broken", "pic 9: broken"]


def test_evaluation_stops_when_too_much_is_corrupt(small):
    small.bad = tuple(range(0, 20, 2))
    with pytest.raises(WispError, match=r"images cannot be read \(pic 0: broken"):
        evaluated(small, [0, 2, 3], 32)
