"""Two processes, started by torchrun and by Fabric's own launcher: the same training, one voice, one writer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from small_runs import SMALL

WISP = str(Path(__file__).parents[1] / "quick_wisp.py")
LAUNCHERS = {
    "torchrun": ([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", WISP], []),
    "fabric": ([sys.executable, WISP], ["--devices", "2", "--accelerator", "cpu"]),
}


@pytest.fixture(scope="module")
def runs(shared_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Path, str, str]]]:
    """By launcher: the run folder, and what all processes wrote to stdout and stderr."""
    root = tmp_path_factory.mktemp("launched")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    started = {
        name: subprocess.Popen(
            [*first, "pretrain", "sacl_xd", "--data", str(shared_photos), *SMALL, "--out", str(root / name), *last],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment | {"OMP_NUM_THREADS": "1"},
        )
        for name, (first, last) in LAUNCHERS.items()
    }
    try:
        yield {name: (root / name, *process.communicate(timeout=280)) for name, process in started.items()}
    finally:
        for process in started.values():
            process.kill()


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_processes_end_with_a_receipt(launcher: str, runs: dict[str, tuple[Path, str, str]]) -> None:
    folder, _, err = runs[launcher]
    assert (folder / "result.json").exists(), err
    assert json.loads((folder / "result.json").read_text())["resolved"]["batch_size"] == 8


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_the_first_process_alone_speaks(launcher: str, runs: dict[str, tuple[Path, str, str]]) -> None:
    _, out, err = runs[launcher]
    assert err == ""
    for once in (
        "  method  sacl_xd",
        "device  cpu x 2",
        "epoch 1: ",
        "epoch 2: ",
        "evaluating and exporting 1x",
        "evaluating and exporting 2x",
        "report: ",
    ):
        assert out.count(once) == 1, out


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_the_first_process_alone_writes(launcher: str, runs: dict[str, tuple[Path, str, str]]) -> None:
    folder, _, _ = runs[launcher]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 3, 4, 5, 6, 6]
    log = (folder / "train.log").read_text()
    assert log.count("started: ") == log.count("finished") == 1
    assert [path for path in folder.rglob(".*")] == []


def test_both_launchers_give_the_same_weights(runs: dict[str, tuple[Path, str, str]]) -> None:
    one, other = (runs[name][0] / "exported" for name in LAUNCHERS)
    for name in ("1x", "2x"):
        weights = "encoder.safetensors"
        assert (one / name / weights).read_bytes() == (other / name / weights).read_bytes()
