"""Images in a folder: nested at any depth without labels, or one sub-folder per class."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from PIL import Image
from torch import Tensor

from wisp.data.sources.decode import open_bytes, to_rgb
from wisp.data.sources.source import CorruptImage, printable
from wisp.errors import WispError


class FolderSource:
    """Image files below a root, sorted by relative path.

    When every image lies exactly one level below the root, in one of at least two sub-folders, the folder names are
    the classes (numbered in sorted order). Any other layout is unlabelled.

    Args:
        root: the folder.
        files: paths of the images relative to it.
        classes: name of the class of each folder, in the order of their numbers, where more is known than the layout
            of these images says.
    """

    missing_labels = 0  # a layout names classes for all images or for none
    unclassed: str | None = None
    """Why there are no classes, where little is missing for some; goes on after the folder's name."""

    def __init__(self, root: Path, files: list[str], classes: dict[str, str] | None = None) -> None:
        self.root = root
        self.files = files
        if classes is None:
            parents = {file.rpartition("/")[0] for file in files}
            one_level = all(parent and "/" not in parent for parent in parents)
            classes = {name: printable(name) for name in sorted(parents)} if one_level and len(parents) > 1 else {}
            self.unclassed = None if classes else _unclassed(root, files)
        self._number = {name: k for k, name in enumerate(classes)}
        self.classes = tuple(classes.values()) or None

    def __len__(self) -> int:
        return len(self.files)

    def open(self, index: int) -> Image.Image:
        """As `Source.open`."""
        try:
            data = (self.root / self.files[index]).read_bytes()
        except OSError as problem:
            raise CorruptImage(self.name(index), (problem.strerror or "cannot be read").lower()) from problem
        return open_bytes(data, partial(self.name, index))

    def read(self, index: int) -> Tensor:
        """As `Source.read`: uint8 [3,H,W]."""
        return to_rgb(self.open(index), partial(self.name, index))

    def label(self, index: int) -> int | None:
        """Number of the image's folder among `classes`, or None."""
        return self._number[self.files[index].rpartition("/")[0]] if self.classes else None

    def name(self, index: int) -> str:
        """Path of the image relative to the root."""
        return printable(self.files[index])

    def places(self) -> set[str]:
        """As `Source.places`: one path an image."""
        root = os.path.realpath(self.root)
        return {os.path.join(root, file) for file in self.files}


def _unclassed(root: Path, files: list[str]) -> str | None:
    """What keeps a folder without classes from having some, and the remedy."""
    parents = {file: file.rpartition("/")[0] for file in files}
    folders = {parent for parent in parents.values() if parent and "/" not in parent}
    if elsewhere := [file for file, parent in parents.items() if parent not in folders]:
        if len(folders) > 1:
            one = len(elsewhere) == 1
            return (
                f"has {len(elsewhere):,} image{'s' * (not one)} outside its {len(folders):,} class folders, "
                f"{'' if one else 'such as '}{printable(elsewhere[0])}; move {'it' if one else 'them'} into these"
            )
        within = {parent.rpartition("/")[0] for parent in parents.values()}
        if len(within) == 1 and "" not in within and len({*parents.values()}) > 1:
            return f"has its class folders further down; name {printable(str(root / within.pop()))}"
        return None
    if not folders:
        return None
    return f"has a single class folder, {printable(folders.pop())}; there must be two or more"


def scan(root: Path, extensions: tuple[str, ...]) -> list[str]:
    """Relative paths (with `/`) of all files below `root` with one of the extensions, sorted.

    Hidden files and folders are left out (`._photo.jpg` is no photo); links to folders are followed once.

    Raises:
        WispError: a folder that may not be read.
    """
    found: list[str] = []
    seen: set[str] = set()

    def refuse(problem: OSError) -> None:
        raise WispError(f'cannot read the folder "{problem.filename}": {problem.strerror}; change its permissions')

    for folder, subfolders, files in os.walk(root, onerror=refuse, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link back up would never end
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        prefix = Path(folder).relative_to(root).as_posix()
        prefix = "" if prefix == "." else prefix + "/"
        found += [prefix + name for name in files if not name.startswith(".") and name.lower().endswith(extensions)]
    return sorted(found)
