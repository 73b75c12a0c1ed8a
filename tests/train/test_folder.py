"""The run folder belongs to one training at a time."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from wisp.errors import WispError
from wisp.train import folder
from wisp.train.folder import RunFolder

HOLD = "import sys, time; from pathlib import Path; from wisp.train.folder import RunFolder\n"
HOLD += "with RunFolder(Path(sys.argv[1])).held(): print(flush=True); time.sleep(60)"


def test_one_training_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "_PATIENCE", 0.2)
    run = RunFolder(tmp_path / "new" / "run")
    with run.held():
        with pytest.raises(WispError, match=r"another process is at work in .*run; wait for it, or name another --out"):
            RunFolder(run.path).held().__enter__()
        assert list(run.path.iterdir()) == [], "a hold leaves nothing behind"
    with RunFolder(run.path).held():
        pass


def test_a_hold_ends_with_its_process(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        other.kill()
    begun = time.monotonic()
    with RunFolder(tmp_path).held():
        assert time.monotonic() - begun < 5


def test_a_place_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(WispError, match="cannot write"):
        RunFolder(tmp_path / "file" / "run").held().__enter__()
