"""The benchmark of kept memory has each process do both kinds of work, and says what it measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks import allocator


@pytest.mark.parametrize("work", allocator.WORK)
def test_a_job_can_be_repeated(work: str) -> None:
    once = allocator.job(work, 2, model="resnet8")
    once()
    once()


def test_every_line_has_its_keys(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[tuple[bool, str]] = []

    @contextmanager
    def contender(keeps: bool, *_: object) -> Iterator[object]:
        yield lambda work: asked.append((keeps, work))

    monkeypatch.setattr(allocator, "contender", contender)
    monkeypatch.setattr(allocator, "confine", lambda threads: None)
    monkeypatch.setattr(allocator, "keep_freed_memory", lambda: True)
    allocator.main(["--repeats", "2", "--warmup", "0"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["work"] for row in rows] == list(allocator.WORK)
    assert all(row["kept_over_returned"] > 0 for row in rows)
    assert all(row["seconds"].keys() == {"kept", "returned"} for row in rows)
    assert asked[:4] == [(keeps, allocator.WORK[0]) for keeps in (True, False, False, True)]


def test_a_process_answers_and_ends() -> None:
    with allocator.contender(False, 1, 2, "resnet8") as ask:
        ask(allocator.WORK[1])
