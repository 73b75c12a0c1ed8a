"""The view benchmark compares like with like: the same pictures, operations and shapes on every side."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from benchmarks import views
from wisp.data.plans import PLANS
from wisp.data.views import ViewPlan


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tensors(images: list) -> Tensor:
    return torch.stack([F.pil_to_tensor(image) for image in images])


def test_pictures_have_the_size_and_are_not_alike() -> None:
    images = tensors(views.pictures(16, 5))
    assert images.shape == (5, 3, 16, 16)
    assert len({image.numpy().tobytes() for image in images}) == 5


def test_without_augmentation_both_sides_are_the_same_pictures() -> None:
    images = views.pictures(20, 4)
    (theirs,) = views.torchvision_views(PLANS["plain"], 16, images)()
    (ours,) = views.wisp_views(PLANS["plain"], 16, tensors(images))()
    assert ours.shape == theirs.shape == (4, 3, 16, 16)
    # Normalised: an 8-bit step is 1 / 255 / 0.224; PIL rounds twice.
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1.5 / 255 / 0.224)


def test_both_sides_show_every_view_at_its_own_side() -> None:
    images = views.pictures(20, 2)
    plan = PLANS["multicrop_small"]
    for made in (views.torchvision_views(plan, 16, images)(), views.wisp_views(plan, 16, tensors(images))()):
        assert [view.shape[-1] for view in made] == [16, 16, 8, 8, 8, 8]


def test_with_everything_on_both_sides_agree_on_average() -> None:
    """One picture, many draws: brightness is distributed alike."""
    torch.manual_seed(0)
    images = views.pictures(32, 1) * 200
    _, _, plan = views.CASES[1]
    ours = views.wisp_views(plan, 16, tensors(images))()
    theirs = views.torchvision_views(plan, 16, images)()
    a, b = (torch.cat(sides).mean((1, 2, 3)) for sides in (ours, theirs))
    assert abs(a.mean() - b.mean()) < 4 * ((a.var() + b.var()) / len(a)).sqrt()
    assert 0.8 < a.std() / b.std() < 1.25


def test_a_row_names_plan_and_ratios(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(plan: ViewPlan, px: int, images: Tensor) -> Callable[[], list[Tensor]]:
        ours = views.wisp_views(plan, px, images)
        return lambda: [*ours(), *ours(), *ours(), *ours()]

    monkeypatch.setattr(views, "kornia_views", slow)
    monkeypatch.setattr(views, "TURN", 0.0)
    row = views.compare(16, 8, PLANS["sacl_xd_cifar10"], repeats=5)
    assert (row["px"], row["plan"], row["views"]) == (16, "sacl_xd_cifar10", 2)
    assert row["vs_torchvision"] > 0
    assert row["vs_kornia"] > 1.5
