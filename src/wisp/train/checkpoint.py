"""Everything that is needed to go on exactly where a training stopped, written atomically."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from wisp.errors import WispError

SCHEMA = 1
MARK = "wisp checkpoint"


@contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name complete or not at all, also when the process is killed or the disk is full.

    Raises:
        WispError: the file could not be written; an earlier one of this name stays.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise WispError(f"cannot write {path}: {error.strerror or error}; the last complete file stays") from error


def save(path: Path, state: dict[str, Any]) -> None:
    """Writes tensors and plain values; loads with `weights_only=True`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as file:
        try:
            torch.save({"mark": MARK, "schema": SCHEMA, **state}, file)
        except RuntimeError as error:  # torch reports a failed write of the underlying file in this way
            raise OSError(None, str(error).partition("\n")[0]) from error


def load(path: Path) -> dict[str, Any]:
    """Reads what `save` wrote, onto the CPU.

    Raises:
        WispError: truncated, not ours, or of a newer schema.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a broken file
        raise WispError(
            f"{path} is truncated or no checkpoint; delete it to start again, or restore an earlier one"
        ) from error
    if not isinstance(state, dict) or state.get("mark") != MARK:
        raise WispError(f"{path} was not written by wisp; a checkpoint is RUN/checkpoints/last.ckpt")
    if state["schema"] > SCHEMA:
        raise WispError(f"{path} has schema {state['schema']}, this wisp reads {SCHEMA}; install a newer wisp")
    return state
