"""Warm-up and half a cosine."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from wisp.train.schedules import WarmupCosine


def test_its_corners() -> None:
    schedule = WarmupCosine(lr=0.3, steps=110, warmup=10)
    assert schedule.at(0) == pytest.approx(0.03)
    assert schedule.at(9) == pytest.approx(0.3)
    assert schedule.at(10) == pytest.approx(0.3)
    assert schedule.at(60) == pytest.approx(0.15)
    assert schedule.at(110) == pytest.approx(0.0)


def test_it_grows_linearly_and_then_falls() -> None:
    schedule = WarmupCosine(lr=1.0, steps=50, warmup=5)
    rates = [schedule.at(step) for step in range(50)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(a > b for a, b in pairwise(rates[5:]))
    for step in range(5, 50):
        assert rates[step] == pytest.approx(0.5 * (1 + math.cos(math.pi * (step - 5) / 45)))


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (2, 0), (2, 1), (10, 1), (10, 10)])
def test_no_step_has_a_rate_of_zero(steps: int, warmup: int) -> None:
    """LARS with clipping divides by it."""
    schedule = WarmupCosine(lr=0.1, steps=steps, warmup=warmup)
    assert all(0 < schedule.at(step) <= 0.1 for step in range(steps))
