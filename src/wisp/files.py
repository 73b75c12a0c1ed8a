"""Files that are whole or absent: written beside their place, flushed, renamed. All of wisp writes through here."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, BinaryIO

from wisp.errors import WispError, nearest


@contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name complete or not at all, also when the process is killed or the disk is full.

    Raises:
        WispError: the file could not be written; an earlier one of this name stays, and no part of the new one.
    """
    part = part_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):  # whatever keeps it from being removed has been told above
            part.unlink(missing_ok=True)


def part_of(path: Path) -> Path:
    """Where `path` is while it is written. Always this name: the next writer takes over what a kill left behind."""
    return path.with_name(f".{path.name}.part")


def cannot_write(path: Path, error: OSError) -> WispError:
    """The one line for a full disk, a missing permission, a file in the place of a folder."""
    return WispError(f"cannot write {path}: {error.strerror or error}; what was complete stays as it was")


def write_bytes(path: Path, data: bytes) -> None:
    """Replaces `path` by `data` in one step; the folder is made where it is missing.

    Raises:
        WispError: as `atomic`.
    """
    with atomic(path) as file:
        file.write(data)


def write_json(path: Path, content: Any) -> None:
    """Replaces `path` by readable JSON of the `plain` form of `content`.

    Raises:
        WispError: as `atomic`.
    """
    text = json.dumps(plain(content), indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, f"{text}\n".encode())


def read_json(path: Path) -> Any:
    """Content of a JSON file.

    Raises:
        WispError: missing, unreadable or broken.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WispError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise WispError(f"{path} is no JSON; restore it, or start again in another folder") from error


def plain(value: Any) -> Any:
    """Dataclasses, mappings and sequences as what JSON knows; a number that is not finite becomes None."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def at_home(path: str | Path) -> Path:
    """The path with a home folder in the place of `~`; one of nobody's is left as it is, and does not exist."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def nearest_paths(wanted: str, n: int = 3) -> list[str]:
    """Existing paths that look most like one that does not exist, best first: its first missing part is another one.

    What is asked for below that part is below the other one, too, where it exists there.
    """
    path, below = Path(wanted), list[str]()
    while not at_home(path).is_dir() and path != path.parent:
        below.insert(0, path.name)
        path = path.parent
    if not below:
        return []
    with suppress(OSError):
        entries = [file for file in at_home(path).iterdir() if not file.name.startswith(".") and file.exists()]
        here = {file.name.lower(): path / file.name for file in entries}
        close = [here[name] for name in nearest(below[0].lower(), here, n)]
        whole = [found.joinpath(*below[1:]) for found in close]
        return [str(full if at_home(full).exists() else part) for full, part in zip(whole, close, strict=True)]
    return []
