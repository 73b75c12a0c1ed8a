"""The plans hold the numbers of their sources, written out again here from the papers' tables."""

from __future__ import annotations

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


def test_digits_keep_their_meaning() -> None:
    for view in PLANS["digits"].views:
        assert (view.flip, view.jitter, view.gray, view.solarize) == (0, 0, 0, 0)
        assert view.crop_scale[0] >= 0.35
        assert 0 < view.shift <= 0.1
        assert view.blur > 0


def test_single_views() -> None:
    assert PLANS["supervised"].views == (View(flip=0.5),)
    assert PLANS["plain"].views == (View(crop_scale=(1, 1), crop_ratio=(1, 1)),)


def test_every_plan_has_its_name_and_a_source() -> None:
    for name, plan in PLANS.items():
        assert plan.name == name
        assert len(plan.source) > 20
