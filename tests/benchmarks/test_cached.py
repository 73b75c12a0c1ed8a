"""The benchmark of cached teachers trains with their rows, and says what it measured."""

from __future__ import annotations

import json

import pytest

from benchmarks import cached, step
from wisp.encoders.teacher import Teacher


def test_every_line_has_its_keys(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the teacher was asked")

    monkeypatch.setattr(Teacher, "_through", refuse)
    for module, name, value in (
        (step, "MODEL", "resnet8"),
        (step, "TEACHER", "resnet8"),
        (step, "IMAGES", 40),
        (cached, "BATCHES", (4, 8)),
        (cached, "IMAGES_A_TURN", 48),
        (cached, "confine", lambda threads: None),
        (cached, "keep_freed_memory", lambda: True),
    ):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(step.method, "__kwdefaults__", {"model": "resnet8"})
    cached.main(["--repeats", "1", "--warmup", "0"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["method"], row["batch"]) for row in rows] == [
        (name, batch) for batch in (4, 8) for name in cached.METHODS
    ]
    for row in rows:
        assert row["cached_over_supervised"] > 0
        assert row["limit"] == 1.10
        assert row["seconds"].keys() == {"supervised", "cached"}
        assert (row["features"], row["precision"], row["px"]) == (64, "fp32", 32)
