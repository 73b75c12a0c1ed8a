"""The diary: rows, sentences, what a resume keeps, and a disk that is full."""

from __future__ import annotations

import errno
import json
import os
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from wisp.errors import WispError
from wisp.train import journal
from wisp.train.journal import Journal


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def row(step: int, **more: object) -> dict[str, Any]:
    return {"kind": "step", "step": step, "epoch": 0, **more}


def test_rows_are_on_disk_at_once(tmp_path: Path) -> None:
    with Journal(tmp_path / "run", "none") as diary:
        diary.write(row(1, loss=2.5))
        diary.note("started: something")
        assert rows(tmp_path / "run") == [row(1, loss=2.5)]
        assert (tmp_path / "run" / "train.log").read_text().endswith("  started: something\n")


def test_a_number_that_is_not_finite_is_null(tmp_path: Path) -> None:
    with Journal(tmp_path, "none") as diary:
        diary.write(row(1, std=float("nan"), terms={"a": float("inf")}))
    assert rows(tmp_path) == [row(1, std=None, terms={"a": None})]


def test_a_resume_drops_what_the_checkpoint_does_not_know(tmp_path: Path) -> None:
    with Journal(tmp_path, "none") as diary:
        for step in range(1, 6):
            diary.write(row(step))
        diary.note("before")
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "ste')
    with Journal(tmp_path, "none", resumed_at=3) as diary:
        diary.write(row(4, again=True))
        diary.note("after")
    assert rows(tmp_path) == [row(1), row(2), row(3), row(4, again=True)]
    told = [line.split("  ")[1] for line in (tmp_path / "train.log").read_text().splitlines()]
    assert told == ["before", "after"], "what happened stays"


def test_a_resume_without_a_checkpoint_starts_over(tmp_path: Path) -> None:
    with Journal(tmp_path, "none") as diary:
        diary.write(row(1))
    with Journal(tmp_path, "none"):
        pass
    assert rows(tmp_path) == []


def test_a_killed_resume_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shorter file takes the place of the longer one in one step."""
    with Journal(tmp_path, "none") as diary:
        diary.write(row(1))
        diary.write(row(2))

    def killed(self: Path, target: Path) -> None:
        raise MemoryError

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(MemoryError):
        Journal(tmp_path, "none", resumed_at=1)
    assert rows(tmp_path) == [row(1), row(2)]


def test_why_it_stopped_is_noted(tmp_path: Path) -> None:
    with pytest.raises(WispError), Journal(tmp_path, "none"):
        raise WispError("the disk\nis full")
    with pytest.raises(KeyboardInterrupt), Journal(tmp_path, "none"):
        raise KeyboardInterrupt
    told = [line.split("  ")[1] for line in (tmp_path / "train.log").read_text().splitlines()]
    assert told == ["stopped: the disk is full", "stopped: KeyboardInterrupt"]


class Full:
    """A file on a full disk: it takes part of a line, or nothing."""

    def __init__(self, takes: int) -> None:
        self.takes = takes

    def write(self, line: bytes) -> int:
        if self.takes == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.takes

    def close(self) -> None:
        pass


@pytest.mark.parametrize("takes", [0, 5])
def test_a_full_disk_is_one_line(tmp_path: Path, takes: int) -> None:
    with Journal(tmp_path, "none") as diary:
        diary._rows = diary._notes = Full(takes)
        with pytest.raises(WispError, match=r"cannot write .*metrics\.jsonl: No space left on device"):
            diary.write(row(1))
        with pytest.raises(WispError, match=r"cannot write .*train\.log: No space left on device"):
            diary.note("x")


def test_a_full_disk_does_not_hide_the_first_error(tmp_path: Path) -> None:
    diary = Journal(tmp_path, "none")
    diary._notes = Full(0)
    with pytest.raises(WispError, match="first"), diary:
        raise WispError("first")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(WispError, match="cannot write"):
        Journal(tmp_path / "file" / "run", "none")


def test_another_reader_gets_the_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[tuple[dict[str, float], int]] = []

    class Project:
        def log(self, metrics: dict[str, float], step: int) -> None:
            heard.append((metrics, step))

        def finish(self) -> None:
            heard.append(({}, -1))

    wandb = types.ModuleType("wandb")
    wandb.init = lambda **options: Project()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr(journal.importlib.util, "find_spec", lambda name: object())
    with Journal(tmp_path, "wandb") as diary:
        diary.write(row(7, terms={"contrast": 1.5}, knn=None, done=True))
    assert heard == [({"step": 7, "epoch": 0, "terms/contrast": 1.5}, 7), ({}, -1)]


def test_a_reader_that_does_not_start_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: object) -> None:
        raise RuntimeError("api_key not configured\nsee the documentation")

    wandb = types.ModuleType("wandb")
    wandb.init = init
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr(journal.importlib.util, "find_spec", lambda name: object())
    with pytest.raises(WispError, match=r"--logger wandb does not start: api_key not configured$"):
        Journal(tmp_path, "wandb")


def test_tensorboard_gets_the_numbers(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Journal(tmp_path, "tensorboard") as diary:
        diary.write(row(1, loss=2.0, terms={"contrast": 1.5}))
        diary.write(row(2, loss=1.0, terms={"contrast": 0.5}))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 2.0), (2, 1.0)]
    assert [event.value for event in events.Scalars("terms/contrast")] == [1.5, 0.5]
