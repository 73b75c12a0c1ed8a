"""Files that are whole or absent: written beside their place, flushed, then renamed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_bytes(path: Path, data: bytes) -> None:
    """Replaces `path` by `data` in one step; on any error (a full disk) the old file stays and no part is left.

    Raises:
        OSError: the folder is missing or cannot be written, or the disk is full.
    """
    part = path.with_name(f".{path.name}.part")  # always this name: the next run cleans up what a kill left behind
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replaces `path` by readable JSON.

    Raises:
        OSError: as `write_bytes`.
        ValueError: a number is not finite.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, f"{text}\n".encode())
