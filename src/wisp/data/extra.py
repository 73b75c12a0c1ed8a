"""Extra training images from a folder, such as `wisp synthesize --out` writes: which ones, and with which labels.

Source: Farhat and Chen 2023, section 3.4: synthetic images of n times the size of the task's training set are added to
it, and an epoch passes over both.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wisp.data.cache import common_size
from wisp.data.sources import Source, Subset, open_source, shown
from wisp.data.sources.folder import FolderSource
from wisp.data.sources.mixed import Mixed
from wisp.data.sources.source import printable
from wisp.errors import WispError
from wisp.files import at_home

MANIFEST = "manifest.json"
"""What `wisp synthesize` writes beside the class folders."""


def mix(task: Source, extra: str, *, labels: bool, own: set[str]) -> Mixed:
    """A task's training images with those of `--extra DIR[:RATIO]` behind them.

    As many of a class as of any other are taken, as far as there are so many, evenly spaced in the order of their
    names: nothing is drawn.

    Args:
        task: the task's own training images.
        extra: a folder, and how many times as many images as the task has are taken of it; all unless given.
        labels: whether the method needs them. Extra classes are then the task's, by their names, and may be some of
            them; otherwise nobody looks at labels, and there need be none.
        own: real paths of the task's own files, those that are asked about included.

    Raises:
        WispError: no such folder, nothing in it, a ratio that is none or wants more images than there are, images that
            are the task's own, or, where labels are needed, none or a class that the task does not have.
    """
    folder, ratio = parted(extra)
    source = _labelled(open_source(str(folder) if folder.is_absolute() else os.path.join(".", folder)))
    if source.places() & own:
        raise WispError(f"--extra {folder} holds images of the task itself (--data or --val); name a folder of others")
    numbers = _numbers(source, task, folder) if labels else None
    count = len(source) if ratio is None else round(ratio * len(task))
    if count > len(source):
        enough = math.floor(1000 * len(source) / len(task)) / 1000
        fewer = f"use {folder}:{enough:g} or less" if enough else "leave the ratio out"
        raise WispError(
            f"--extra {extra} wants {count:,} images, {ratio:g} x the {len(task):,} of the task, and {folder} has "
            f"{len(source):,}; {fewer}, or add images to it (wisp synthesize)"
        )
    chosen = _evenly(_groups(source), count)
    return Mixed(
        task,
        Subset(source, chosen),
        folder=Path(os.path.abspath(folder)),
        found=len(source),
        labels=None if numbers is None else [numbers[place] for place in chosen],
        size=common_size(task),
        made=_manifest(folder),
    )


def parted(extra: str) -> tuple[Path, float | None]:
    """The folder and the ratio of `DIR[:RATIO]`; a folder that has this very name has no ratio.

    Raises:
        WispError: no such folder, or a ratio that is no number of 0 or more.
    """
    whole = at_home(extra)
    if extra and whole.is_dir():
        return whole, None
    head, _, tail = extra.rpartition(":")
    folder = at_home(head)
    if not head or not folder.is_dir():
        missing = printable(head if head and _number(tail) is not None else extra)
        raise WispError(f'--extra: no such folder "{missing}"; name one of class folders, as wisp synthesize writes it')
    ratio = _number(tail)
    if ratio is None or not (ratio >= 0 and math.isfinite(ratio)):
        raise WispError(f'--extra {extra}: the ratio behind the colon is "{tail}"; it must be a number of 0 or more')
    return folder, ratio


def pathless(extra: str) -> str:
    """`DIR[:RATIO]` without a machine's path, whether the folder is still there or not."""
    head, _, tail = extra.rpartition(":")
    if head and _number(tail) is not None:
        return f"{_name(head)}:{tail}"
    return _name(extra)


def _name(folder: str) -> str:
    """Also of `.` and `DIR/`."""
    return os.path.basename(os.path.abspath(os.path.expanduser(folder)))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _labelled(source: Source) -> Source:
    """The same images; those of a single class folder are of that class too, for the task has the others."""
    if isinstance(source, FolderSource) and source.classes is None:
        parents = {file.rpartition("/")[0] for file in source.files}
        if len(parents) == 1 and (only := parents.pop()) and "/" not in only:
            return FolderSource(source.root, source.files, {only: printable(only)})
    return source


def _numbers(source: Source, task: Source, folder: Path) -> list[int]:
    """The class of every extra image as a number of the task's classes.

    A slash in a class's name stands as `_` in a folder's.
    """
    assert task.classes is not None, "a method that needs labels has classes"
    if source.classes is None:
        raise WispError(f"--extra {folder} has no labels, and the method needs them; use folders named by class")
    known = {name.replace("/", "_"): number for number, name in enumerate(task.classes)}
    known |= {name: number for number, name in enumerate(task.classes)}
    unknown = [name for name in source.classes if name not in known]
    if unknown:
        raise WispError(
            f"--extra {folder} has classes that --data does not have ({shown(unknown)}): rename these folders, or move "
            "them out of it"
        )
    found = (source.label(index) for index in range(len(source)))
    return [known[source.classes[label]] for label in found if label is not None]


def _groups(source: Source) -> list[list[int]]:
    """Places of the images of each class; without labels all of them together."""
    groups: dict[int | None, list[int]] = {}
    for index in range(len(source)):
        groups.setdefault(source.label(index), []).append(index)
    return [groups[key] for key in sorted(groups, key=lambda key: -1 if key is None else key)]


def _evenly(groups: Sequence[Sequence[int]], count: int) -> list[int]:
    """So many places, sorted: as many of every group as there are, up to one more of the first ones."""
    shares = [0] * len(groups)
    while (left := count - sum(shares)) > 0:
        growing = [k for k, group in enumerate(groups) if shares[k] < len(group)]
        for k in growing[:left]:
            shares[k] += min(max(1, left // len(growing)), len(groups[k]) - shares[k])
    spread = (group[k * len(group) // n] for group, n in zip(groups, shares, strict=True) for k in range(n))
    return sorted(spread)


def _manifest(folder: Path) -> dict[str, Any] | None:
    """What `wisp synthesize` wrote beside its images; None where there is no such file, or another program's."""
    try:
        read = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return read if isinstance(read, dict) and isinstance(read.get("pipeline"), str) else None
