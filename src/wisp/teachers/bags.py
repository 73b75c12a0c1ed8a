"""Bags: the images that a teacher finds most like each image, found once and kept on disk beside its features."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wisp.data.sources import Source
from wisp.encoders.teacher import Teacher
from wisp.errors import WispError
from wisp.files import atomic
from wisp.losses.contrastive import unit
from wisp.teachers.remembering import alone, file_of, note_seconds, remember, whole
from wisp.train.screen import counting

_BLOCK = 4096
"""Rows on either side of a product: 64 MiB of similarities at a time, however many images there are."""


def find_bags(
    teacher: Teacher,
    source: Source,
    count: int,
    *,
    data: str,
    batch_size: int,
    device: torch.device,
    tell: Callable[[str], None],
) -> Tensor:
    """Every image's nearest others in the teacher's features of the plain images, its head left out, nearest first.

    They are kept beside the features, under a name with their number, for as long as those: with other images, another
    teacher or another preprocessing they are found anew. Of several processes one finds them, the others wait.

    Args:
        teacher: on the CPU, where it is again afterwards.
        source: the training images, N.
        count: K.
        data: as `remember`.
        batch_size: as `remember`.
        device: where features and similarities are computed.
        tell: takes a line on what takes time, and why.

    Returns:
        int64 [N,K] on the CPU. An image that cannot be read is as near to all others as a right angle.

    Raises:
        WispError: no more images than neighbours; or as `remember`.
    """
    if len(source) <= count:
        raise WispError(f"{len(source)} images have no {count} neighbours each; use more than {count} images")
    path, shape = bag_file(teacher, source, count, data), (len(source), count)
    found = _kept(path, shape)
    if found is not None:
        return found
    features = remember(teacher, source, "features", data=data, batch_size=batch_size, device=device, tell=tell)
    with alone(path.parent, tell):
        found = _kept(path, shape)  # another process may have made it meanwhile
        if found is None:
            reason = " again: the kept file is damaged" if path.exists() else ""
            images = f"{len(source):,} images by the teacher {teacher.origin}"
            tell(f"finding the {count} nearest of each of {images}{reason}; they are kept in {path}")
            begun = time.perf_counter()
            with counting("neighbours") as progress:
                found = nearest(features, count, device=device, progress=progress)
            with atomic(path) as file:
                np.save(file, found.numpy())
            note_seconds(path, time.perf_counter() - begun, device)
    return found


def _kept(path: Path, shape: tuple[int, int]) -> Tensor | None:
    """What a file of bags holds; None where it is missing or damaged, or names images that do not exist."""
    found = whole(path, shape, np.int64)
    return found if found is not None and int(found.min()) >= 0 and int(found.max()) < shape[0] else None


def bag_file(teacher: Teacher, source: Source, count: int, data: str) -> Path:
    """Where `find_bags` keeps the places of `count` neighbours."""
    rows = file_of(teacher, source, "features", data)
    return rows.with_name(f"{rows.stem}-nearest-{count}.npy")


def nearest(
    rows: Tensor, count: int, *, device: torch.device | str = "cpu", progress: Callable[[int, int], None] | None = None
) -> Tensor:
    """The nearest others of each row by the cosine, nearest first.

    Args:
        rows: [N,D] on the CPU, perhaps in a file; blocks of them are read, cast to float32 and normalised.
        count: K, less than N.
        device: where similarities are computed.
        progress: called with (rows done, rows).

    Returns:
        int64 [N,K] on the CPU. A row is never among its own, however many others are equal to it.
    """
    found = []
    starts = range(0, len(rows), _BLOCK)
    for first in starts:
        asking = unit(rows[first : first + _BLOCK].to(device).float())
        best = torch.full((len(asking), count), -torch.inf, device=device)
        places = torch.zeros(len(asking), count, dtype=torch.int64, device=device)
        for other in starts:
            asked = unit(rows[other : other + _BLOCK].to(device).float())  # cast there: half as much is copied
            similar = asking @ asked.T
            columns = torch.arange(other, other + similar.shape[1], device=device)
            if other == first:
                similar.fill_diagonal_(-torch.inf)
            near, where = similar.topk(min(count, len(columns)), dim=1)
            best, chosen = torch.cat([best, near], dim=1).topk(count, dim=1)
            places = torch.cat([places, columns[where]], dim=1).gather(1, chosen)
        found.append(places.cpu())
        if progress:
            progress(first + len(asking), len(rows))
    return torch.cat(found)
