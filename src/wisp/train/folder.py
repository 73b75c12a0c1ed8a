"""The run folder: what may be started in it, and how its small files are written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from wisp.errors import WispError
from wisp.train.checkpoint import atomic


class RunFolder:
    """Names of the files of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = path / "run.json"
        self.environment = path / "env.json"
        self.checkpoint = path / "checkpoints" / "last.ckpt"
        self.result = path / "result.json"
        self.exported = path / "exported"
        self.report = path / "report.html"

    @property
    def finished(self) -> bool:
        """Whether the run is complete: its receipt is written last of all."""
        return self.result.exists()

    def refuse_foreign(self) -> None:
        """Raises WispError where a new run would mix with other files."""
        if self.path.exists() and not self.path.is_dir():
            raise WispError(f"--out {self.path} is a file; name a folder that does not exist yet")
        if self.path.is_dir() and not self.run.exists() and any(self.path.iterdir()):
            raise WispError(f"--out {self.path} holds other files and no run; name another folder")


def write_json(path: Path, values: Any) -> None:
    """Writes plain values, readable and atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as file:
        file.write((json.dumps(values, indent=2) + "\n").encode())


def read_json(path: Path) -> Any:
    """Reads a file of a run.

    Raises:
        WispError: missing or broken.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WispError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise WispError(f"{path} is no JSON; restore it, or start again in another folder") from error
