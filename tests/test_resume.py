"""A run that was stopped goes on where it was, and ends with the bytes of a run that nobody disturbed."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from small_runs import SMALL, Answer, Wisp, write_photos
from wisp.methods import xd
from wisp.run import Run, again, to_json
from wisp.train import checkpoint, loop, rows

pytestmark = pytest.mark.usefixtures("here", "quick")

STEPS = 6
"""Of the smallest run: two epochs of 24 pictures in batches of 8."""


@pytest.fixture(scope="module")
def pretrain(wisp: Wisp, shared_photos: Path) -> Wisp:
    """`pretrain("run")`: the smallest run of SACL-XD, in this folder."""

    def run(out: str | Path, *more: str) -> Answer:
        return wisp("pretrain", "sacl_xd", "--data", shared_photos, *SMALL, "--out", out, *more)

    return run


@pytest.fixture(scope="module")
def undisturbed(pretrain: Wisp, quick: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed; no test writes to it."""
    folder = tmp_path_factory.mktemp("runs") / "undisturbed"
    assert pretrain(folder).code == 0
    return folder


def weights(run: Path) -> dict[str, bytes]:
    found = {path.parent.name: path.read_bytes() for path in run.glob("exported/*/encoder.safetensors")}
    assert set(found) == {"1x", "2x"}
    return found


def metrics(run: Path) -> list[dict[str, Any]]:
    """Rows of `metrics.jsonl` without what a clock measured."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in {"seconds", "images_per_s", "data_wait"}} for row in found]


def same(run: Path, other: Path) -> None:
    assert weights(run) == weights(other)
    assert metrics(run) == metrics(other)
    assert [row["step"] for row in metrics(run)] == [1, 2, 3, 3, 4, 5, 6, 6]


def interrupt_after(step: int, monkeypatch: pytest.MonkeyPatch, number: int = signal.SIGINT) -> None:
    """The person at the terminal presses Ctrl-C during the step after `step`."""
    add = rows.Rows.add

    def adding(self: rows.Rows, at: int, *rest: Any) -> None:
        if at == step:
            os.kill(os.getpid(), number)
        add(self, at, *rest)

    monkeypatch.setattr(rows.Rows, "add", adding)


@pytest.mark.parametrize(
    ("step", "number"), [(1, signal.SIGINT), (3, signal.SIGTERM), (5, signal.SIGINT), (6, signal.SIGINT)]
)
def test_an_interrupted_run_goes_on(
    pretrain: Wisp, undisturbed: Path, here: Path, step: int, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of an epoch, at the end of one (its row included), and after the last step."""
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        interrupt_after(step, patch, number)
        answer = pretrain("run")
    assert answer.code == 130
    assert (
        answer.err == f"wisp: interrupted and saved after step {step} of {STEPS}; the same command goes on from there\n"
    )
    assert not (here / "run" / "exported").exists()
    assert handlers == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)), "the former ones are back"
    assert checkpoint.load(here / "run" / "checkpoints" / "last.ckpt")["progress"]["step"] == step

    answer = pretrain("run")
    assert answer.code == 0
    assert f"after step {step} of {STEPS}" in answer.out
    same(here / "run", undisturbed)
    log = (here / "run" / "train.log").read_text()
    assert [word in log for word in ("started: ", "stopped: interrupted and saved", "resumed after", "finished")] == [
        True
    ] * 4


def test_a_second_interrupt_does_not_wait(pretrain: Wisp, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wisp.train.interrupt._ONE_SIGNAL", 0.0)
    add = rows.Rows.add

    def adding(self: rows.Rows, *rest: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        add(self, *rest)

    monkeypatch.setattr(rows.Rows, "add", adding)
    answer = pretrain("run")
    assert answer.code == 130
    assert answer.err == "wisp: interrupted; what was saved stays, and the same command can be given again\n"
    assert not (here / "run" / "checkpoints").exists()


def test_a_saving_every_few_minutes_changes_nothing(
    pretrain: Wisp, undisturbed: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between a saving by the clock and the end of the epoch."""
    monkeypatch.setattr(loop, "_SAVE_SECONDS", 0.0)
    add = rows.Rows.add

    def adding(self: rows.Rows, step: int, *rest: Any) -> None:
        if step == 5:
            raise MemoryError
        add(self, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(rows.Rows, "add", adding)
        with pytest.raises(MemoryError):
            pretrain("run")
    assert checkpoint.load(here / "run" / "checkpoints" / "last.ckpt")["progress"]["step"] == 4
    assert pretrain("run").code == 0
    same(here / "run", undisturbed)


def test_killed_while_it_evaluates(
    pretrain: Wisp, undisturbed: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between epochs: the epoch's last step is done again. At the end: no step is."""
    for place in ("wisp.pretraining.health_of", "wisp.finishing.export_encoder"):
        with monkeypatch.context() as patch:
            patch.setattr(place, lambda *a, **k: (_ for _ in ()).throw(MemoryError))
            with pytest.raises(MemoryError):
                pretrain("run")
    assert pretrain("run").code == 0
    same(here / "run", undisturbed)


@pytest.mark.parametrize(
    "leftover", ["", "run.json", "run.json metrics.jsonl checkpoints/last.ckpt exported/1x/card.json"]
)
def test_what_a_kill_leaves_behind_is_taken_over(pretrain: Wisp, undisturbed: Path, here: Path, leftover: str) -> None:
    """Half-written files of the first moment, and of any later one."""
    folder = here / "run"
    folder.mkdir()
    if not leftover:
        (folder / ".run.json.part").write_text("{")
    else:
        (folder / "run.json").write_bytes((undisturbed / "run.json").read_bytes())
    for name in leftover.split():
        part = (folder / name).with_name(f".{(folder / name).name}.part")
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(b"\x00")
    if len(leftover.split()) > 1:
        (folder / "metrics.jsonl").write_text('{"kind": "step", "step": 1, "epoch": 0, "lo')
    assert pretrain("run").code == 0
    same(folder, undisturbed)
    assert [path for path in folder.rglob(".*")] == []


def test_a_finished_run_is_left_alone(pretrain: Wisp, undisturbed: Path) -> None:
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in undisturbed.rglob("*") if path.is_file()}
    answer = pretrain(undisturbed)
    assert answer.code == 0
    assert answer.out == f"{undisturbed} is finished; its results are in result.json and report.html\n"
    assert answer.err == ""
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in undisturbed.rglob("*") if p.is_file()} == before
    assert pretrain(undisturbed, "--workers", "1").code == 0, "where a run runs may change"


def test_a_run_file_repeats_the_run(wisp: Wisp, undisturbed: Path, here: Path) -> None:
    assert wisp("pretrain", "--from", undisturbed / "run.json", "--out", "again").code == 0
    same(here / "again", undisturbed)
    ours, theirs = (json.loads((run / "run.json").read_text()) for run in (here / "again", undisturbed))
    assert {**ours, "out": None} == {**theirs, "out": None, "plan": theirs["resolved"]["plan"]}


def test_a_run_is_repeated_with_the_views_that_it_had() -> None:
    """Also where another plan has become the default since."""
    run = Run(method=xd.Config(), data="digits")
    old = {**to_json(run), "resolved": {"plan": "digits_one"}}
    assert again(json.dumps(old), "run.json").plan == "digits_one"
    assert again(json.dumps(to_json(run)), "run.json") == run
    named = dataclasses.replace(run, plan="simclr")
    assert again(json.dumps(old | {"plan": "simclr"}), "run.json") == named


def test_the_number_format_of_the_first_start_stays(
    pretrain: Wisp, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that began with auto = bf16 does not go on in fp32 on a machine without it."""
    monkeypatch.setattr("wisp.train.precision._cpu_has_fast_bf16", lambda: True)
    with monkeypatch.context() as patch:
        interrupt_after(1, patch)
        assert "cpu, bf16" in pretrain("run").out
    monkeypatch.setattr("wisp.train.precision._cpu_has_fast_bf16", lambda: False)
    assert "cpu, bf16" in pretrain("run").out
    assert json.loads((here / "run" / "result.json").read_text())["resolved"]["precision"] == "bf16"


# a full disk ---------------------------------------------------------------------------------------------------------


def _full(_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_the_last_checkpoint(
    pretrain: Wisp, undisturbed: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, count = checkpoint.save, iter(range(9))

    def saving(path: Path, state: dict[str, Any]) -> None:
        with monkeypatch.context() as patch:
            if next(count) == 1:
                patch.setattr(os, "fsync", _full)
            save(path, state)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", saving)
        line = pretrain("run").refusal()
    path = Path("run/checkpoints/last.ckpt")
    assert line == f"cannot write {path}: No space left on device; what was complete stays as it was"
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]
    assert checkpoint.load(path)["progress"]["step"] == 3
    assert "stopped: cannot write" in Path("run/train.log").read_text()
    assert pretrain("run").code == 0
    same(here / "run", undisturbed)


def test_a_disk_that_is_full_from_the_start(pretrain: Wisp, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _full)
        assert pretrain("run").refusal().startswith("cannot write run/run.json: No space left on device")
    assert list(Path("run").iterdir()) == []
    assert pretrain("run").code == 0


# killed --------------------------------------------------------------------------------------------------------------

KILLED = """
import sys
from pathlib import Path

import torch

from wisp.cli import main
from wisp.train import loop, rows

torch.set_num_threads(1)
loop._SAVE_SECONDS = float("inf")
add = rows.Rows.add

def adding(self, step, *rest):
    add(self, step, *rest)
    if step == 5:
        print("after step 5", flush=True)
        sys.stdin.read()

rows.Rows.add = adding
main(sys.argv[1:])
"""


def kill_after_step_5(data: Path, *more: str) -> None:
    """`wisp pretrain sacl_xd --data DATA --out run`, and SIGKILL as soon as its fifth step is done."""
    words = ["pretrain", "sacl_xd", "--data", str(data), *SMALL, "--out", "run", *more]
    command = [sys.executable, "-c", KILLED, *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            assert any(line == "after step 5\n" for line in running.stdout), "it never came to step 5"
        finally:
            running.kill()
    assert checkpoint.load(Path("run/checkpoints/last.ckpt"))["progress"]["step"] == 3
    known = [row["step"] for row in metrics(Path("run"))]
    assert known == [1, 2, 3, 3, 4, 5], "with rows that the checkpoint does not know"


def test_killed_after_the_first_checkpoint(pretrain: Wisp, undisturbed: Path, here: Path, shared_photos: Path) -> None:
    kill_after_step_5(shared_photos)
    answer = pretrain("run")
    assert answer.code == 0
    assert "after step 3 of 6" in answer.out
    same(here / "run", undisturbed)


def test_killed_while_workers_decode(wisp: Wisp, here: Path) -> None:
    """They outlive it for a moment, and hold on to nothing that the next start needs; nor do they change a byte."""
    photos = write_photos(here / "large", side=80)
    words = ("pretrain", "sacl_xd", "--data", photos, *SMALL, "--out")
    assert wisp(*words, "undisturbed", "--workers", "0").code == 0
    kill_after_step_5(photos, "--workers", "1")
    answer = wisp(*words, "run", "--workers", "1")
    assert answer.code == 0, answer.err
    assert "after step 3 of 6" in answer.out
    same(here / "run", here / "undisturbed")


def test_the_weights_of_these_runs_are_worth_comparing(undisturbed: Path, pretrain: Wisp, here: Path) -> None:
    """Another seed gives other bytes."""
    assert pretrain("other", "--seed", "1").code == 0
    assert weights(here / "other") != weights(undisturbed)
    assert torch.get_num_threads() == 1
