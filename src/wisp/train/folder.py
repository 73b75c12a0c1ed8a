"""The run folder: the names of its files, what may be started in it, and which of its encoders is meant."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wisp.errors import WispError
from wisp.export.card import CARD
from wisp.files import cannot_write, part_of, read_json

_PATIENCE = 5.0
"""Seconds in which the workers of a killed training let go of its folder."""


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
        self.record = path / "record"
        self.diagnosis = path / "diagnosis.json"

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

    @contextmanager
    def held(self) -> Iterator[None]:
        """Makes the folder and keeps other trainings out of it; however this process ends, the hold ends with it.

        Raises:
            WispError: another process trains there, or the folder cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            directory = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        try:
            self._lock(directory)
            yield
        finally:
            os.close(directory)

    def _lock(self, directory: int) -> None:
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < end:
                    time.sleep(0.1)
                    continue
                raise WispError(
                    f"another process is at work in {self.path}; wait for it, or name another --out"
                ) from None
            except OSError:  # a file system without locks
                pass
            return


def exported(path: Path, name: str | None = None) -> Path:
    """What `load_encoder` takes: `path` itself if it is a file or an exported folder, else a folder in the run `path`.

    Args:
        path: a run, an exported folder, or a file.
        name: which encoder of a run; its first unless given.

    Raises:
        WispError: nothing was exported there, or there is no choice and yet a name.
    """
    if path.is_file() or (path / CARD).is_file():
        if name is not None:
            raise WispError(f"--encoder chooses among the encoders of a run, and {path} is none; leave it out")
        return path
    result = RunFolder(path).result
    if not result.is_file():
        if RunFolder(path).run.is_file():
            raise WispError(f"the run in {path} is not finished; the command that began it goes on with it")
        raise WispError(f"{path} holds no finished run and no exported encoder; name a run folder or RUN/exported/NAME")
    try:
        names = list(read_json(result)["encoders"])
    except (KeyError, TypeError):
        names = []
    if not names:
        raise WispError(f"{result} names no encoder; train again, or name a folder RUN/exported/NAME")
    if name is not None and name not in names:
        raise WispError(f"{path} has no encoder {name!r}; it has {', '.join(names)}")
    return RunFolder(path).exported / (name or names[0])
