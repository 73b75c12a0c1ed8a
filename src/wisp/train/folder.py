"""The run folder: the names of its files, and what may be started in it."""

from __future__ import annotations

import os
from pathlib import Path

from wisp.errors import WispError
from wisp.files import part_of


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
        self.gallery = path / "gallery.npz"

    @property
    def finished(self) -> bool:
        """Whether the run is complete: its receipt is written last of all."""
        return self.result.exists()

    def refuse_foreign(self) -> None:
        """Checks the place of a run without touching it.

        Raises:
            WispError: a new run would mix with other files there, or nothing can be written there.
        """
        if self.path.exists() and not self.path.is_dir():
            raise WispError(f"--out {self.path} is a file; name a folder that does not exist yet")
        ground = next(place for place in (self.path, *self.path.parents) if place.exists())
        if not ground.is_dir():
            raise WispError(f"--out {self.path} cannot be made: {ground} is a file; name another folder")
        if not os.access(ground, os.W_OK | os.X_OK):
            raise WispError(f"--out {self.path} cannot be written: no permission in {ground}; name another folder")
        if self.path.is_dir() and not self.run.exists():
            started = part_of(self.run)  # all that a run leaves that was killed in its first moment
            if any(entry != started for entry in self.path.iterdir()):
                raise WispError(f"--out {self.path} holds other files and no run; name another folder")
