"""What a frozen teacher makes of the training images as they are, kept on disk, so that a step needs no teacher.

The images are those of an evaluation, at the teacher's own resolution and normalisation: the student's views have no
part in it, and students of any image size share one file. Rows stand in float16, as the teacher gives them: a cosine is
off by 1e-3 at most, since numbers too large or too small for it are refused, and 1.3 million rows of 2048 numbers take
5.2 GB on disk and not 10.5. Their length is what a classifier was trained on; who compares directions normalises what
is read.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import torch
from torch import Tensor, nn

from wisp.cost.road import machine_name
from wisp.data.plain import plain_batches
from wisp.data.sources import Source
from wisp.data.sources.named import cache_folder
from wisp.encoders.teacher import Teacher, fingerprint
from wisp.errors import WispError
from wisp.evaluate.features import evaluating
from wisp.files import atomic, cannot_write, read_json, write_json
from wisp.train.environment import hardware
from wisp.train.screen import counting
from wisp.train.setup import memory

_FORMAT = 2
"""Another number for every change of what a file of the same name would hold."""
_SECONDS = ".json"


def remember(
    teacher: Teacher,
    source: Source,
    shown: Literal["features", "embeddings"],
    *,
    data: str,
    batch_size: int,
    device: torch.device,
    tell: Callable[[str], None],
) -> Tensor:
    """The teacher's features [N,D] or embeddings [N,E] of all images, float16, in the order of the source.

    They are computed where no file holds them, in float32, and mapped into memory: nothing is read before it is used.
    The file lies in the cache folder under a name of the teacher, its preprocessing and the names of all images, and is
    made anew when the images' files have other sizes or dates. Of several processes one makes it, the others wait.

    Args:
        teacher: on the CPU, where it is again afterwards.
        source: the training images.
        shown: what the teacher makes of them: `embeddings` are those of its head, if it has one.
        data: name of the data set, without a machine's path.
        batch_size: images at a time.
        device: where the teacher computes.
        tell: takes one line on what takes time, and why.

    Returns:
        Rows of any length; zeros where an image cannot be read.

    Raises:
        WispError: the file cannot be written, too many images cannot be read, the teacher's numbers are not finite or
            too large or too small for a float16, or the device's memory is full.
    """
    width = teacher.width if shown == "embeddings" else teacher.features
    head = teacher.head if shown == "embeddings" else None
    path, shape = file_of(teacher, source, shown, data), (len(source), width)
    kept = whole(path, shape, np.float16)
    if kept is not None:
        return kept
    with alone(path.parent, tell):
        kept = whole(path, shape, np.float16)  # another process may have made it meanwhile
        if kept is not None:
            return kept
        earlier = [file for file in path.parent.glob("*.npy") if not file.name.startswith(path.stem)]
        what = f"features of {len(source):,} images by the teacher {teacher.origin}"
        reason = " again: the kept file is damaged" if path.exists() else " again: the images changed"
        tell(f"computing {what}{reason if path.exists() or earlier else ''}; they are kept in {path}")
        _require_space(path.parent, len(source) * width * 2)
        begun = time.perf_counter()
        rows = _rows(teacher, head, source, width=width, batch_size=batch_size, device=device)
        with atomic(path) as file, counting("teacher's features") as progress:
            _write(file, rows, shape, progress)
        note_seconds(path, time.perf_counter() - begun, device)
        for stale in earlier:
            stale.unlink(missing_ok=True)
            stale.with_suffix(_SECONDS).unlink(missing_ok=True)
        kept = whole(path, shape, np.float16)
    if kept is None:
        raise WispError(f"cannot read {path} back; set WISP_CACHE to a folder on another disk")
    return kept


def file_of(teacher: Teacher, source: Source, shown: Literal["features", "embeddings"], data: str) -> Path:
    """Where `remember` keeps the rows; what is made of them is kept beside it, under names that begin as this one."""
    head = teacher.head if shown == "embeddings" else None
    return cache_folder() / "teachers" / _identity(teacher, head, source, data) / f"{_stamp(source)}.npy"


def note_seconds(path: Path, seconds: float, device: torch.device) -> None:
    """Keeps beside a file how long it took to make: who finds it there would have had to wait as long."""
    write_json(path.with_suffix(_SECONDS), {"seconds": seconds, "machine": machine_name(hardware(device))})


def noted_seconds(path: Path, device: torch.device) -> float | None:
    """How long a file took to make on this machine; None where nobody noted it, or another machine made it."""
    try:
        noted = read_json(path.with_suffix(_SECONDS))
        return float(noted["seconds"]) if noted["machine"] == machine_name(hardware(device)) else None
    except (OSError, ValueError, KeyError, TypeError, WispError):
        return None


def _identity(teacher: Teacher, head: nn.Module | None, source: Source, data: str) -> str:
    """A name for the teacher, its preprocessing, the data set and its images, in their order."""
    digest = hashlib.blake2b(digest_size=8)
    parts = [(fingerprint(each), repr(each)) for each in (teacher.encoder, head) if each is not None]
    sight = (teacher.own.image_size, teacher.own.mean, teacher.own.std)
    digest.update(json.dumps([_FORMAT, parts, sight, data]).encode())
    for index in range(len(source)):
        digest.update(b"\0" + source.name(index).encode())
    return digest.hexdigest()


def _stamp(source: Source) -> str:
    """Changes with the sizes and dates of the files that hold the images; not with the folder that they lie in."""
    digest = hashlib.blake2b(digest_size=8)
    for place in sorted(source.places()):
        try:
            found = os.stat(place)
        except OSError:  # told as a corrupt image when it is read
            continue
        digest.update(f"{found.st_size} {found.st_mtime_ns};".encode())
    return digest.hexdigest()


def whole(path: Path, shape: tuple[int, ...], kind: type[np.generic]) -> Tensor | None:
    """What a .npy file holds, mapped into memory; None where it is missing, damaged or of another kind."""
    try:
        rows = np.load(path, mmap_mode="c", allow_pickle=False)  # copy on write: nothing changes the file
    except (OSError, ValueError, EOFError):
        return None
    return torch.from_numpy(rows) if rows.shape == shape and rows.dtype == kind else None


@contextmanager
def alone(folder: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Keeps other processes away; however this one ends, the hold ends with it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)  # NFS locks nothing that is open for reading only
    except OSError as error:
        raise WispError(f"{cannot_write(folder, error)}; WISP_CACHE names another folder") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell("another process computes the teacher's features; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(handle)


def _require_space(folder: Path, needed: int) -> None:
    """Raises WispError before an hour's work that a full disk would end."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise WispError(
            f"the teacher's features take {needed / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB left; set "
            "WISP_CACHE to a folder on another disk"
        )


def _rows(
    teacher: Teacher, head: nn.Module | None, source: Source, *, width: int, batch_size: int, device: torch.device
) -> Iterator[Tensor]:
    """Rows of all images, float16 [*,width] on the CPU, in order."""
    left_out: set[int] = set()
    batches = plain_batches(
        source,
        range(len(source)),
        image_size=teacher.own.image_size,
        mean=teacher.own.mean,
        std=teacher.own.std,
        batch_size=batch_size,
        device=device,
        left_out=left_out,
    )
    size = teacher.own.image_size
    when = f"while the teacher {teacher.origin} looks at {batch_size} images of {size} px at a time"
    try:
        with memory(when, "lower --batch-size or --method.teacher-size"), evaluating(teacher.to(device)):
            found = (_looked_at(images, teacher.encoder, head) for images in batches)
            yield from _in_their_places(found, left_out, len(source), width)
    finally:
        teacher.to("cpu")


@torch.inference_mode()
def _looked_at(images: Tensor, encoder: nn.Module, head: nn.Module | None) -> Tensor:
    features = encoder(images)
    rows = features if head is None else head(features)
    if not bool(torch.isfinite(rows).all()):
        raise WispError("the teacher gives numbers that are not finite; name another one")
    kept: Tensor = rows.to("cpu", torch.float16)
    if not bool(torch.isfinite(kept).all()):
        largest = float(rows.abs().max())
        raise WispError(
            f"the teacher gives numbers of {largest:.3g}, and what is kept of it ends at 65504; name another one"
        )
    tiny = rows.abs().amax(dim=1).cpu()
    if bool(((tiny > 0) & (tiny < torch.finfo(torch.float16).tiny)).any()):
        raise WispError(
            f"the teacher gives numbers of {float(tiny[tiny > 0].min()):.3g} at most for an image, and what is kept of "
            "it is exact from 6e-5 on; name another one"
        )
    return kept


def _in_their_places(parts: Iterable[Tensor], left_out: set[int], images: int, width: int) -> Iterator[Tensor]:
    """The same rows, and zeros for the images that have none: [N,width] in all.

    Args:
        parts: rows of the images that are not left out.
        left_out: places; grows while the parts are taken, ahead of them.
        images: N.
        width: of a row.
    """
    nothing = torch.zeros(width, dtype=torch.float16)
    place = 0
    for part in parts:
        rows = []
        for row in part:
            while place in left_out:
                rows.append(nothing)
                place += 1
            rows.append(row)
            place += 1
        yield torch.stack(rows)
    yield nothing.expand(images - place, -1)


def _write(
    file: BinaryIO, parts: Iterable[Tensor], shape: tuple[int, int], progress: Callable[[int, int], None]
) -> None:
    """A .npy file, part by part: the whole need not fit into memory."""
    np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
    done = 0
    for part in parts:
        file.write(part.numpy().tobytes())
        done += len(part)
        progress(done, shape[0])
