"""Which files of a data set are for training and which for testing, where names say so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from wisp.data.sources.source import printable, shown
from wisp.errors import WispError

Split = Literal["train", "test"]
_WORDS: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "test": ("test", "testing", "val", "valid", "validation", "eval"),
}


def images_of(root: Path, images: Sequence[str], split: Split) -> tuple[Path, list[str]]:
    """The images of one split, when folders are named by split.

    Only folders count, for a photo may well be called `train_station.jpg`. They name splits when every image lies in
    such a folder on one and the same level (`train/cat/1.png`, `photos/val/2.png`, `bottle/test/good/3.png`), and both
    kinds are there. Otherwise all images are kept, whatever the split.

    Args:
        root: the folder.
        images: paths relative to it.
        split: which images are wanted.

    Returns:
        A folder, and the images as paths relative to it: the folder of the split if it is one, so that classes lie
        right below it, else `root`.

    Raises:
        WispError: folders called `train` and `test` (or `val`) with other images beside them.
    """
    folders = {tuple(image.split("/")[:-1]) for image in images}
    for level in range(min(map(len, folders))):
        if {_split_of(folder[level]) for folder in folders} == {*_WORDS}:
            chosen = [image for image in images if _split_of(image.split("/")[level]) == split]
            below = {"/".join(image.split("/")[: level + 1]) for image in chosen}
            if len(below) > 1:
                return root, chosen
            inner = below.pop()
            return root / inner, [image.removeprefix(f"{inner}/") for image in chosen]
    _refuse_strays(root, images, folders)
    return root, list(images)


def _refuse_strays(root: Path, images: Sequence[str], folders: set[tuple[str, ...]]) -> None:
    """Raises WispError where images lie beside `train/` and `test/`, below what all of them have in common.

    Who has such a folder expects neither that the test images are trained on, nor that images are left out without a
    word, and nobody can tell which of the two it would be. Names that only begin with these words do not count here:
    beside other classes, `train_station/` and `test_tube/` are classes too.
    """
    level = 0
    while len({folder[level : level + 1] for folder in folders}) == 1 and all(len(f) > level for f in folders):
        level += 1
    exact = {folder[level] for folder in folders if len(folder) > level and folder[level].lower() in _words()}
    if {_split_of(name) for name in exact} != {*_WORDS}:
        return
    strays = [printable(image) for image in images if image.split("/")[level] not in exact]
    inside = root.joinpath(*next(iter(folders))[:level])
    named = " and ".join(f"{name}/" for name in sorted(exact))
    raise WispError(
        f'"{inside}" has other images beside {named} ({shown(strays)}): '
        "give one of these folders, or move the other images into them"
    )


def archives_of(root: Path, files: Sequence[str], split: Split) -> list[str]:
    """The parquet or tar files of one split, when they or their folders are named by split.

    A name counts by its first word: `data/train-00000-of-00004.parquet`. When some say train and others test, only the
    wanted ones are given; otherwise all of them.

    Args:
        root: the folder, for a message.
        files: paths relative to it.
        split: which files are wanted.

    Raises:
        WispError: further files that are named by neither: they would be left out, or trained on, by guess.
    """
    kinds = {file: next(filter(None, map(_split_of, file.split("/"))), None) for file in files}
    if not {*_WORDS} <= {*kinds.values()}:
        return list(files)
    strays = [printable(file) for file, kind in kinds.items() if kind is None]
    if strays:
        raise WispError(
            f'"{root}" has files for training, for testing, and others ({shown(strays)}): '
            'give those that you mean by a pattern, such as "train-*.parquet"'
        )
    return [file for file, kind in kinds.items() if kind == split]


def _split_of(name: str) -> Split | None:
    """What the first word of a file's or folder's name says."""
    word = name.replace(".", "-").replace("_", "-").partition("-")[0].lower()
    return next((split for split, words in _WORDS.items() if word in words), None)


def _words() -> tuple[str, ...]:
    return tuple(word for words in _WORDS.values() for word in words)
