"""The diary of a run: `metrics.jsonl`, `train.log`, and optional readers of the same rows (TensorBoard, W&B)."""

from __future__ import annotations

import contextlib
import datetime
import errno
import importlib.util
import json
import os
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from wisp.errors import WispError
from wisp.files import cannot_write, plain, write_bytes

Logger = Literal["none", "tensorboard", "wandb"]


class Journal:
    """Writes one JSON object a line to `metrics.jsonl` and sentences to `train.log`; numbers also go to a logger.

    Only the first process of a run has one. Use as a context.

    Args:
        folder: of the run; made where it is missing.
        logger: a second reader of the rows.
        resumed_at: step of the checkpoint; rows after it are dropped.

    Raises:
        WispError: the logger's extra is missing or the folder cannot be written.
    """

    def __init__(self, folder: Path, logger: Logger, *, resumed_at: int = 0) -> None:
        self.path = folder / "metrics.jsonl"
        self.log = folder / "train.log"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._truncate(resumed_at)
            # Without a buffer a full disk is an error of this line, not of a later one or of closing.
            self._rows = self.path.open("ab", buffering=0)
            self._notes = self.log.open("ab", buffering=0)
        except OSError as error:
            raise cannot_write(folder, error) from error
        self._logger = _open_logger(logger, folder)

    def __enter__(self) -> Journal:
        """Is open already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Notes why the run stopped, and closes."""
        if error is not None:
            with contextlib.suppress(WispError):  # the first error is the one to tell
                self.note(f"stopped: {' '.join(str(error).split()) or type(error).__name__}")
        self.close()

    def _truncate(self, step: int) -> None:
        """Drops what was written after the checkpoint, so that a resumed run has the rows of an undisturbed one."""
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:  # the line in which the process was killed
                continue
            if row["step"] <= step:
                kept.append(line)
        write_bytes(self.path, "".join(f"{line}\n" for line in kept).encode())

    def write(self, row: dict[str, Any]) -> None:
        """Appends a row; it must hold `kind`, `step` and `epoch`. A number that is not finite becomes null.

        Raises:
            WispError: the disk is full.
        """
        self._append(self._rows, self.path, json.dumps(plain(row)))
        if self._logger is not None:
            self._logger.log_metrics(_flat(row), step=row["step"])

    def note(self, text: str) -> None:
        """Appends a line to `train.log`, with the time.

        Raises:
            WispError: the disk is full.
        """
        now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        self._append(self._notes, self.log, f"{now}  {text}")

    def _append(self, file: FileIO, path: Path, text: str) -> None:
        line = f"{text}\n".encode()
        try:
            if file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise cannot_write(path, error) from error

    def close(self) -> None:
        """Closes the files and the logger."""
        self._rows.close()
        self._notes.close()
        if self._logger is not None and hasattr(self._logger, "finalize"):
            self._logger.finalize("success")


def _flat(row: dict[str, Any], prefix: str = "") -> dict[str, float]:
    flat: dict[str, float] = {}
    for key, value in row.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            flat[f"{prefix}{key}"] = value
    return flat


def require_logger(logger: Logger) -> None:
    """Raises WispError where the package behind a logger is not installed."""
    if logger != "none" and importlib.util.find_spec(logger) is None:
        raise WispError(f"--logger {logger} needs an extra: pip install -e '.[{logger}]'")


def _open_logger(logger: Logger, folder: Path) -> Any:
    require_logger(logger)
    try:
        if logger == "tensorboard":
            from lightning_fabric.loggers import TensorBoardLogger

            return TensorBoardLogger(root_dir=folder, name="tensorboard", version="")
        if logger == "wandb":
            import wandb

            return _Wandb(wandb.init(project="wisp", dir=str(folder), name=folder.name))
    except Exception as error:  # an account, a network, a version: whatever it is, it is the logger's own
        raise WispError(f"--logger {logger} does not start: {str(error).partition(chr(10))[0]}") from error
    return None


class _Wandb:
    def __init__(self, run: Any) -> None:
        self._run = run

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self._run.log(metrics, step=step)

    def finalize(self, status: str) -> None:
        self._run.finish()
