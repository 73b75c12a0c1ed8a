import math
from itertools import pairwise

import pytest

from wisp.report.scales import Scale, spread


def test_ends_meet_the_pixels_in_both_kinds():
    for log in (False, True):
        scale = Scale(1, 1000, 50, 350, log=log)
        assert (scale(1), scale(1000)) == (50, 350)
    assert Scale(1, 1000, 50, 350, log=True)(10) == pytest.approx(150)
    assert Scale(0, 1, 178, 10)(1) == 10


@pytest.mark.parametrize("low", [-3.1, 0.0, 0.013, 17.0, 4e3])
@pytest.mark.parametrize("span", [1e-4, 0.07, 1.0, 33.0, 5e5])
def test_linear_ticks_are_round_inside_and_few(low, span):
    ticks = Scale(low, low + span, 0, 300).ticks()
    values = [value for value, _ in ticks]
    assert 2 <= len(values) <= 7
    assert all(low - 1e-9 * abs(low) <= value <= low + span * (1 + 1e-9) + 1e-9 * abs(low) for value in values)
    steps = {round((b - a) / span, 6) for a, b in pairwise(values)}
    assert len(steps) == 1
    mantissa = (values[1] - values[0]) / 10 ** math.floor(math.log10(values[1] - values[0]) + 1e-6)
    assert round(mantissa, 3) in {1, 2, 5}


@pytest.mark.parametrize(("low", "high"), [(1e9, 1e15), (3e12, 1e14), (4e13, 1.6e14), (7e13, 8e13)])
def test_log_ticks_are_inside_rising_and_told_apart(low, high):
    ticks = Scale(low, high, 0, 300, log=True).ticks()
    assert all(low <= value <= high for value, _ in ticks)
    assert len(ticks) <= 6
    assert len({text for _, text in ticks}) == len(ticks)
    if high / low > 2:
        assert len(ticks) >= 2


def test_whole_ticks_never_fall_between_numbers():
    assert [value for value, _ in Scale(1, 3, 0, 300, whole=True).ticks()] == [1, 2, 3]


def test_percent_ticks_show_as_many_digits_as_their_step_needs():
    assert [text[:-2] for _, text in Scale(0.949, 0.956, 0, 1, as_percent=True).ticks()] == [
        "95.0",
        "95.2",
        "95.4",
        "95.6",
    ]


def test_a_range_is_never_empty():
    for values in ([0.0], [5.0, 5.0], [-2.0]):
        low, high = spread(values)
        assert low < values[0] < high
    low, high = spread([3e12], log=True)
    assert 0 < low < 3e12 < high
