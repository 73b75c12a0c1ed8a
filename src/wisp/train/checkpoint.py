"""Everything that is needed to go on exactly where a training stopped, written atomically."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from wisp.errors import WispError
from wisp.files import atomic

SCHEMA = 1
MARK = "wisp checkpoint"


def save(path: Path, state: dict[str, Any]) -> None:
    """Writes tensors and plain values; loads with `weights_only=True`.

    Raises:
        WispError: the disk is full, or the folder cannot be written; the last checkpoint stays.
    """
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
    if not isinstance(state.get("schema"), int) or state["schema"] > SCHEMA:
        raise WispError(f"{path} has schema {state.get('schema')}, this wisp reads {SCHEMA}; install a newer wisp")
    return state
