"""Ratios: contenders take turns, and a repeat is compared with itself."""

from __future__ import annotations

import json

import pytest

from benchmarks import clock


def test_contenders_take_turns_in_both_orders() -> None:
    calls: list[str] = []
    contenders = {name: lambda name=name: calls.append(name) for name in "ab"}
    times = clock.interleaved(contenders, repeats=3, warmup=2)
    assert "".join(calls) == "abba" + "abbaab"
    assert [len(values) for values in times.values()] == [3, 3]


def test_a_ratio_is_the_median_of_the_repeats_own() -> None:
    """One slow minute of the machine slows both contenders of a repeat, and does not move the ratio."""
    times = {"ours": [1.0, 10.0, 1.1], "theirs": [2.0, 20.0, 2.0]}
    assert clock.ratio(times, "ours", "theirs") == 0.5
    assert clock.seconds(times) == {"ours": 1.1, "theirs": 2.0}


def test_a_line_says_what_and_where(monkeypatch: pytest.MonkeyPatch) -> None:
    row = json.loads(clock.line({"k": 2}, clock.surroundings("step", repeats=7, packages=("timm",))))
    assert next(iter(row)) == "k"
    assert row["bench"] == "step"
    assert row["repeats"] == 7
    assert set(row["versions"]) == {"torch", "timm"}
    assert row["threads"] >= 1
    assert not any("/" in str(value) for key, value in row.items() if key != "cpu")
