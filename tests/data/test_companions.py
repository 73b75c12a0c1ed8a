"""Views of another image beside those of each image."""

from __future__ import annotations

import itertools

import pytest
import torch

from wisp.data.plans import PLANS
from wisp.errors import WispError

BAGS = torch.stack([(torch.arange(20) + step) % 20 for step in (1, 7, 12)], dim=1)


@pytest.fixture(params=["small", "mixed"])
def source(request):
    return request.getfixturevalue(request.param)


def shown_by(views, library):
    """Which image of the library each row of an unaugmented view shows."""
    return [int((library - row).abs().flatten(1).sum(1).argmin()) for row in views]


@pytest.fixture
def library(loader):
    """`library(source)`: every image as the plain plan shows it, in the order of the source."""

    def make(source):
        batch = next(loader(source, PLANS["plain"], batch_size=20).epoch(0))
        return torch.empty_like(batch.views[0]).index_copy_(0, batch.index, batch.views[0])

    return make


def equal(one, other):
    return torch.equal(one.index, other.index) and all(
        torch.equal(a, b) for a, b in zip(one.views + one.companions, other.views + other.companions, strict=True)
    )


def test_a_batch_has_companions_only_when_asked(source, loader, same):
    alone, together = loader(source).epoch(0), loader(source, companions=BAGS).epoch(0)
    for one, two in zip(alone, together, strict=True):
        assert one.companions == ()
        assert same(one, two), "an image's own views are what they are without companions"
        assert [view.shape for view in two.companions] == [(8, 3, 24, 24)] * 2
        assert all(view.is_contiguous(memory_format=torch.channels_last) for view in two.companions)
        assert not torch.equal(*two.companions)


def test_every_companion_is_of_its_images_bag(source, loader, library):
    pictures = library(source)
    steps = set()
    for epoch in range(3):
        for batch in loader(source, PLANS["plain"], companions=BAGS).epoch(epoch):
            shown = torch.tensor(shown_by(batch.companions[0], pictures))
            found = (shown - batch.index) % 20
            assert set(found.tolist()) <= {1, 7, 12}
            steps.add(tuple(found.tolist()))
    assert len(steps) == 6, "every step draws anew"
    assert {each for step in steps for each in step} == {1, 7, 12}


def test_a_companion_has_views_of_its_own(source, loader):
    itself = torch.arange(20)[:, None]
    batch = next(loader(source, companions=itself).epoch(0))
    for own, beside in zip(batch.views, batch.companions, strict=True):
        assert not any(torch.equal(a, b) for a, b in zip(own, beside, strict=True))
    plain = next(loader(source, PLANS["plain"], companions=itself).epoch(0))
    assert torch.equal(plain.views[0], plain.companions[0]), "of the same picture"


@pytest.mark.parametrize("plan", ["sacl_xd_imagenet", "multicrop_small"])
@pytest.mark.parametrize("world", [1, 2])
def test_workers_and_ranks_change_nothing(source, loader, plan, world):
    settings = {"plan": PLANS[plan], "companions": BAGS}
    whole = list(loader(source, **settings).epoch(1))
    assert [view.shape for view in whole[0].companions] == [view.shape for view in whole[0].views]
    ranks = [list(loader(source, rank=rank, world=world, workers=2, **settings).epoch(1)) for rank in range(world)]
    for step, batch in enumerate(whole):
        parts = [batches[step] for batches in ranks]
        assert torch.equal(torch.cat([part.index for part in parts]), batch.index)
        for v, view in enumerate(batch.companions):
            assert torch.equal(torch.cat([part.companions[v] for part in parts]), view)


def test_an_epoch_resumes_in_the_middle(source, loader):
    settings = {"batch_size": 4, "companions": BAGS}
    whole = list(loader(source, **settings).epoch(2))
    assert all(map(equal, whole[3:], loader(source, **settings).epoch(2, start=3)))
    assert not equal(whole[3], next(loader(source, seed=6, **settings).epoch(2, start=3)))


@pytest.mark.parametrize("workers", [0, 2])
def test_corrupt_images_are_replaced_on_both_sides(source, workers, loader, library):
    pictures = library(source)
    source.bad = (3, 4, 19)
    instead = {3: 5, 4: 5, 19: 0}
    data = loader(source, PLANS["plain"], companions=BAGS, workers=workers, batch_size=20)
    met = 0
    for epoch in range(2):
        batch = next(data.epoch(epoch))
        assert not {3, 4, 19} & set(batch.index.tolist())
        for own, beside in zip(batch.index.tolist(), shown_by(batch.companions[0], pictures), strict=True):
            drawn = BAGS[own].tolist()
            assert beside in {instead.get(each, each) for each in drawn}, "a companion of what is shown in its place"
            met += any(each in instead and beside == instead[each] for each in drawn)
    assert met, "some companion was to be replaced"
    assert len(data.replaced) == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_corrupt_companions_stop_the_run(picture, workers, loader, pictures):
    source = pictures([picture(k, 70 + k, 80) for k in range(40)], bad=tuple(range(20, 40)))
    bags = torch.arange(20, 40).repeat(2)[:, None]
    data = loader(source, workers=workers, companions=bags)
    with pytest.raises(WispError, match=r"of 40 images cannot be read|no readable image left"):
        list(itertools.chain(*(data.epoch(epoch) for epoch in range(4))))
