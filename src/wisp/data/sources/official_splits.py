"""Folders with split files of their own: CUB-200-2011 and MIT-67, as their makers pack them.

CUB-200-2011 (Wah et al. 2011): `images.txt` numbers the images, `train_test_split.txt` says 1 for training. MIT-67
(Quattoni and Torralba 2009): `TrainImages.txt` and `TestImages.txt` list 80 and 20 images of each class. Other images
of such a folder belong to neither split.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from wisp.data.sources.folder import FolderSource
from wisp.data.sources.source import printable
from wisp.data.sources.splits import Split
from wisp.errors import WispError

_CUB = ("images.txt", "train_test_split.txt")
_MIT = ("TrainImages.txt", "TestImages.txt")
_INNER = ("CUB_200_2011", "indoorCVPR_09")
"""Folders that the archives make; whoever unpacks one into a folder may name either."""


def has_official_split(root: Path) -> bool:
    """Whether a folder, or the one that its archive makes in it, has such files and images beside them."""
    return _found(root) is not None


def open_official(root: Path, split: Split) -> FolderSource | None:
    """The images of one official split; None where `root` has none.

    The classes are those of both splits, numbered as their folders are sorted; `001.Black_footed_Albatross` is called
    `Black footed Albatross`.

    Raises:
        WispError: a list that cannot be read, or one without an image of this split.
    """
    found = _found(root)
    if found is None:
        return None
    lists, images = found
    both = _cub(lists) if (lists / _CUB[0]).is_file() else {"train": _mit(lists, 0), "test": _mit(lists, 1)}
    files = sorted({*both[split]})
    if not files:
        raise WispError(f'the lists in "{lists}" name no {split} image; unpack the archive again')
    folders = sorted({file.rpartition("/")[0] for part in both.values() for file in part})
    return FolderSource(images, files, {name: _title(name) for name in folders})


def _found(root: Path) -> tuple[Path, Path] | None:
    """The folder that holds the lists, and the one that the images of the lists lie in."""
    for lists in (root, *(root / name for name in _INNER)):
        for names, places in ((_CUB, ("images",)), (_MIT, ("Images", "indoorCVPR_09/Images"))):
            if all(os.path.isfile(lists / name) for name in names):
                images = next((lists / place for place in places if os.path.isdir(lists / place)), None)
                if images is not None:
                    return lists, images
    return None


def _cub(lists: Path) -> dict[Split, list[str]]:
    names, kinds = (dict(_pairs(lists / file)) for file in _CUB)
    if names.keys() != kinds.keys() or not {*kinds.values()} <= {"0", "1"}:
        raise WispError(
            f'"{lists / _CUB[1]}" does not say 0 or 1 for each image of {_CUB[0]}; unpack the archive again'
        )
    return {
        "train": [name for number, name in names.items() if kinds[number] == "1"],
        "test": [name for number, name in names.items() if kinds[number] == "0"],
    }


def _mit(lists: Path, place: int) -> list[str]:
    names = _lines(lists / _MIT[place])
    for name in names:
        _inside(name, lists / _MIT[place])
    return names


def _pairs(file: Path) -> Iterator[tuple[str, str]]:
    for line in _lines(file):
        number, _, value = line.partition(" ")
        if file.name == _CUB[0]:
            _inside(value, file)
        yield number, value


def _inside(name: str, file: Path) -> None:
    """Raises WispError where a line is anything but `class/image`."""
    if not re.fullmatch(r"[^/]+/[^/]+", name) or ".." in name.split("/"):
        raise WispError(
            f'"{file}" has a line that is no class/image ({printable(name)[:40]}); unpack the archive again'
        )


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as problem:
        raise WispError(f'cannot read "{file}": {problem.strerror}; change its permissions') from problem
    return [line.strip() for line in text.splitlines() if line.strip()]


def _title(folder: str) -> str:
    return printable(re.sub(r"^\d+\.", "", folder).replace("_", " "))
