"""The plans hold the numbers of their sources, written out again here from the papers' tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from wisp.data.plans import PLANS
from wisp.data.views import View

JITTER = (0.8, 0.4, 0.4, 0.2, 0.1)


def jitter(view: View) -> tuple[float, ...]:
    return view.jitter, view.brightness, view.contrast, view.saturation, view.hue


@pytest.mark.parametrize(
    ("name", "blur", "solarize"),
    [
        ("sacl_xd_imagenet", (1.0, 0.1), (0.0, 0.2)),
        ("sacl_xd_imagenet100", (1.0, 0.1), (0.0, 0.2)),
        ("sacl_xd_cifar10", (0.0, 0.0), (0.0, 0.2)),
        ("byol", (1.0, 0.1), (0.0, 0.2)),
    ],
)
def test_asymmetric_pairs(name: str, blur: tuple[float, float], solarize: tuple[float, float]) -> None:
    views = PLANS[name].views
    assert tuple(view.blur for view in views) == blur
    assert tuple(view.solarize for view in views) == solarize
    for view in views:
        assert (view.flip, view.gray, view.crop_scale) == (0.5, 0.2, (0.08, 1.0))
        assert jitter(view) == JITTER
        assert view.blur_sigma == (0.1, 2.0)


def test_moco_v2() -> None:
    first, second = PLANS["mocov2"].views
    assert first == second
    assert jitter(first) == (0.8, 0.4, 0.4, 0.4, 0.1)
    assert (first.crop_scale, first.flip, first.gray, first.blur, first.solarize) == ((0.2, 1.0), 0.5, 0.2, 0.5, 0.0)


@pytest.mark.parametrize(("name", "scale"), [("mocov3", (0.2, 1.0)), ("dino", (0.4, 1.0))])
def test_byols_pair_with_another_crop(name: str, scale: tuple[float, float]) -> None:
    expected = tuple(replace(view, crop_scale=scale) for view in PLANS["byol"].views)
    assert PLANS[name].views[:2] == expected


@pytest.mark.parametrize(
    ("name", "scale", "strengths", "gray", "blur", "solarize"),
    [
        ("simclr", (0.08, 1.0), (0.8, 0.8, 0.8, 0.8, 0.2), 0.2, 0.5, 0.0),
        ("simclr_cifar", (0.08, 1.0), (0.8, 0.8, 0.8, 0.8, 0.2), 0.2, 0.5, 0.0),
        ("simsiam_cifar", (0.2, 1.0), (0.8, 0.4, 0.4, 0.4, 0.1), 0.2, 0.0, 0.0),
        ("vicreg_cifar", (0.2, 1.0), JITTER, 0.2, 0.0, 0.1),
        ("ssl_small", (0.2, 1.0), (0.8, 0.8, 0.8, 0.8, 0.4), 0.5, 0.5, 0.0),
    ],
)
def test_symmetric_pairs(
    name: str, scale: tuple[float, float], strengths: tuple[float, ...], gray: float, blur: float, solarize: float
) -> None:
    first, second = PLANS[name].views
    assert first == second
    assert (first.crop_scale, jitter(first), first.flip) == (scale, strengths, 0.5)
    assert (first.gray, first.blur, first.solarize, first.blur_sigma) == (gray, blur, solarize, (0.1, 2.0))


def test_swav() -> None:
    views = PLANS["swav"].views
    assert PLANS["swav"].pixels(224) == (224,) * 2 + (96,) * 6
    assert [view.crop_scale for view in views] == [(0.14, 1.0)] * 2 + [(0.05, 0.14)] * 6
    for view in views:
        assert jitter(view) == (0.8, 0.8, 0.8, 0.8, 0.2)
        assert (view.flip, view.gray, view.blur, view.solarize) == (0.5, 0.2, 0.5, 0.0)


def test_dino() -> None:
    views = PLANS["dino"].views
    assert PLANS["dino"].pixels(224) == (224,) * 2 + (96,) * 8
    assert [view.crop_scale for view in views] == [(0.4, 1.0)] * 2 + [(0.05, 0.4)] * 8
    assert [view.blur for view in views] == [1.0, 0.1] + [0.5] * 8
    assert [view.solarize for view in views] == [0.0, 0.2] + [0.0] * 8
    for view in views:
        assert (jitter(view), view.flip, view.gray) == (JITTER, 0.5, 0.2)


def test_small_images_have_a_plan_of_several_sides() -> None:
    plan = PLANS["multicrop_small"]
    assert plan.pixels(32) == (32, 32, 16, 16, 16, 16)
    assert "wisp's own" in plan.source
    pairs = zip(plan.views, PLANS["sacl_xd_cifar10"].views, strict=False)
    assert all(replace(own, crop_scale=view.crop_scale) == view for own, view in pairs)


def test_digits_keep_their_meaning() -> None:
    for view in PLANS["digits"].views:
        assert (view.flip, view.jitter, view.gray, view.solarize) == (0, 0, 0, 0)
        assert view.crop_scale[0] >= 0.35
        assert 0 < view.shift <= 0.1
        assert view.blur > 0


def test_single_views() -> None:
    assert PLANS["supervised"].views == (View(flip=0.5),)
    assert PLANS["pad_crop"].views == (View(flip=0.5, crop_scale=(1, 1), crop_ratio=(1, 1), shift=4.5 / 32),)
    assert PLANS["plain"].views == (View(crop_scale=(1, 1), crop_ratio=(1, 1)),)


def test_every_plan_has_its_name_and_a_source() -> None:
    for name, plan in PLANS.items():
        assert plan.name == name
        assert len(plan.source) > 20


def test_global_views_come_first() -> None:
    for plan in PLANS.values():
        sides = plan.pixels(224)
        assert sides[0] == 224
        assert list(sides) == sorted(sides, reverse=True)
