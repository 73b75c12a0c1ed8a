"""Data sets that are known by name: the embedded digits, torchvision's, and folders with official split files.

torchvision's are downloaded when they are absent, where their makers still offer them. Two of them have splits that
torchvision does not read. Caltech-101 has none of its makers and takes that of Farhat and Chen 2023: in their released
code the first 80 % of the files of each class are for training, 6,907 in all, as their appendix A.6 says. SUN397 takes
the first of its makers' ten partitions (Xiao et al. 2010), 50 + 50 images of each class.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from wisp.data.catalogue import NAMED
from wisp.data.sources.decode import to_rgb
from wisp.data.sources.official_splits import open_official
from wisp.data.sources.source import CorruptImage, Source, Subset
from wisp.data.sources.splits import Split
from wisp.errors import WispError


class DigitsSource:
    """scikit-learn's 1,797 hand-written digits (UCI optical digits, 8x8 grey) as 32x32 RGB; needs no network.

    `test` is every fifth image of each class (355), `train` the others (1,442): fixed, and stratified.
    """

    classes = tuple("0123456789")
    missing_labels = 0

    def __init__(self, split: str = "train") -> None:
        from sklearn.datasets import load_digits  # an import of its own weight, only where it is needed

        digits = load_digits()
        targets: list[int] = digits.target.tolist()
        seen = [0] * 10
        rows = []
        for row, target in enumerate(targets):
            if (seen[target] % 5 == 4) == (split == "test"):
                rows.append(row)
            seen[target] += 1
        self._rows = rows
        self._targets = [targets[row] for row in rows]
        grey = [Image.fromarray((digits.images[row] * (255 / 16)).round().astype("uint8")) for row in rows]
        self._images = [image.resize((32, 32), Image.Resampling.BILINEAR) for image in grey]

    def __len__(self) -> int:
        return len(self._rows)

    def open(self, index: int) -> Image.Image:
        """As `Source.open`."""
        return self._images[index]

    def read(self, index: int) -> Tensor:
        """As `Source.read`: uint8 [3,32,32]."""
        return to_rgb(self._images[index], partial(self.name, index))

    def label(self, index: int) -> int:
        """The digit."""
        return self._targets[index]

    def name(self, index: int) -> str:
        """Position among the 1,797."""
        return f"digit {self._rows[index]}"

    def places(self) -> set[str]:
        """As `Source.places`: none."""
        return set()


class TorchvisionSource:
    """A labelled or unlabelled torchvision data set of (image, class) pairs."""

    def __init__(self, title: str, dataset: Any) -> None:
        self.title = title
        self.dataset = dataset
        targets = _targets(dataset)
        known = [target for target in targets if target >= 0]  # STL10's unlabelled images carry -1
        self.missing_labels = len(targets) - len(known) if known else 0
        self._targets = targets if known and not self.missing_labels else None
        names = getattr(dataset, "classes", None) or getattr(dataset, "categories", None)
        names = names or range(max(known, default=-1) + 1)
        # Imagenette gives the synonyms of a class; the first one is its usual name
        named = tuple(str(name[0] if isinstance(name, tuple) else name) for name in names)
        self.classes = named if self._targets is not None else None

    def __len__(self) -> int:
        return len(self.dataset)

    def open(self, index: int) -> Image.Image:
        """As `Source.open`."""
        try:
            image: Image.Image = self.dataset[index][0]
        except (OSError, SyntaxError, ValueError) as problem:  # what PIL raises of a file that the user unpacked
            raise CorruptImage(self.name(index), str(problem).partition("\n")[0] or "cannot be read") from problem
        return image

    def read(self, index: int) -> Tensor:
        """As `Source.read`: uint8 [3,H,W]."""
        return to_rgb(self.open(index), partial(self.name, index))

    def label(self, index: int) -> int | None:
        """The class, or None."""
        return self._targets[index] if self._targets is not None else None

    def name(self, index: int) -> str:
        """Name of the data set and position in it."""
        return f"{self.title} {index}"

    def places(self) -> set[str]:
        """As `Source.places`: none, for its splits may share files and have no image in common."""
        return set()


def _targets(dataset: Any) -> list[int]:
    """The class of every image, under whichever name a torchvision data set keeps it; nothing when it has none."""
    for key in ("targets", "labels", "_labels", "y"):
        kept = getattr(dataset, key, None)
        if kept is not None:
            return [int(target) for target in torch.as_tensor(kept).tolist()]
    return [int(target) for _, target in getattr(dataset, "_samples", ())]


def _by_flag(split: str) -> dict[str, Any]:
    return {"train": split != "test"}


def _by_name(train: str, test: str) -> Callable[[str], dict[str, Any]]:
    return lambda split: {"split": {"train": train, "test": test}.get(split, split)}


def _whole(_: str) -> dict[str, Any]:
    """Of a data set that torchvision does not split."""
    return {}


# torchvision class -> its arguments for a split; all of them give (PIL image, class)
_TORCHVISION: dict[str, Callable[[str], dict[str, Any]]] = {
    "CIFAR10": _by_flag,
    "CIFAR100": _by_flag,
    "MNIST": _by_flag,
    "FashionMNIST": _by_flag,
    "KMNIST": _by_flag,
    "USPS": _by_flag,
    "STL10": _by_name("train", "test"),
    "SVHN": _by_name("train", "test"),
    "DTD": _by_name("train", "test"),
    "Flowers102": _by_name("train", "test"),
    "FGVCAircraft": _by_name("trainval", "test"),
    "Food101": _by_name("train", "test"),
    "OxfordIIITPet": _by_name("trainval", "test"),
    "Imagenette": _by_name("train", "val"),
    "Caltech101": _whole,
    "StanfordCars": _by_name("train", "test"),
    "SUN397": _whole,
}
_GONE = ("StanfordCars",)
"""No longer offered by their makers: torchvision reads them and cannot download them."""
NAMES = ("digits", *NAMED)
_CALTECH_TRAIN = 0.8
_SUN_LISTS: dict[Split, str] = {"train": "Training_01.txt", "test": "Testing_01.txt"}


def canonical(name: str) -> str | None:
    """The spelling in `NAMES` that `name` means, or None."""
    return {known.lower(): known for known in NAMES}.get(name.lower())


def cache_folder() -> Path:
    """Where downloads go: $WISP_CACHE, else $XDG_CACHE_HOME/wisp, else ~/.cache/wisp."""
    if own := os.environ.get("WISP_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wisp"


def open_named(name: str, split: Split) -> Source:
    """Open a data set of `NAMES`, downloading it when it is not in the cache and its makers offer it.

    Raises:
        WispError: a split that it does not have, no network, files that the user has to fetch, or a cache that cannot
            be written.
    """
    if name == "digits":
        if split not in ("train", "test"):
            raise WispError(f'digits has the splits train and test, not "{split}"')
        return DigitsSource(split)
    root = cache_folder() / name
    if name not in _TORCHVISION:
        listed = open_official(root, split)
        if listed is None:
            raise WispError(_missing(name))
        return listed
    if name == "SUN397":  # asked for before 37 GB of images, which are of no use without
        lists = _sun_lists(root, split)
    dataset = _read(name, root, split)
    source = TorchvisionSource(name, dataset)
    if name == "Caltech101":
        return Subset(source, _caltech(dataset, split))
    if name == "SUN397":
        return Subset(source, _sun(dataset, lists))
    return source


def _read(name: str, root: Path, split: Split) -> Any:
    """What torchvision reads."""
    from torchvision import datasets

    try:
        root.mkdir(parents=True, exist_ok=True)
        with (root / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the processes of one run would otherwise write the same archive
            options = {} if name in _GONE else {"download": True}
            return getattr(datasets, name)(str(root), **options, **_TORCHVISION[name](split))
    except Exception as problem:  # of what is downloaded by hand, whatever reads it
        raise WispError(_missing(name, _first_sentence(problem))) from problem


def _missing(name: str, reason: str | None = None) -> str:
    """What to download and where to put it; `reason` is torchvision's."""
    known, place = NAMED[name], cache_folder() / name
    verb, network = "unpack" if known.unpacked else "put", ""
    if reason is not None:
        why = "read" if name in _GONE else "downloaded"
        reason, network = f" and could not be {why} ({reason})", "" if name in _GONE else "connect to the network, or "
    return (
        f"{name} is not in {place}{reason or ''}: {network}{verb} {known.files} (from {known.home}) into "
        f"{place / known.into}, or give a folder of images instead"
    )


def _caltech(dataset: Any, split: Split) -> list[int]:
    """Places of the first 80 % of each class, or of the others; torchvision lists them class by class."""
    sizes = torch.bincount(torch.tensor(dataset.y), minlength=len(dataset.categories)).tolist()
    chosen: list[int] = []
    start = 0
    for size in sizes:
        middle = start + int(_CALTECH_TRAIN * size)
        chosen += range(start, middle) if split == "train" else range(middle, start + size)
        start += size
    return chosen


def _sun_lists(root: Path, split: Split) -> list[str]:
    """The images of a split of the first partition, as `a/abbey/sun_aaalbzqrimafwbiv.jpg`."""
    file = next(
        (path for path in (root / _SUN_LISTS[split], root / "SUN397" / _SUN_LISTS[split]) if path.is_file()), None
    )
    if file is None:
        raise WispError(_missing("SUN397"))
    return [
        line.strip().lstrip("/")
        for line in file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        if line.strip()
    ]


def _sun(dataset: Any, listed: list[str]) -> list[int]:
    """Places of the listed images, in the order of the list; torchvision has them in that of the file system."""
    root = Path(dataset.root) / "SUN397"
    place = {path.relative_to(root).as_posix(): k for k, path in enumerate(dataset._image_files)}
    absent = [name for name in listed if name not in place]
    if absent:
        raise WispError(
            f"SUN397 in {root} lacks {len(absent):,} of the {len(listed):,} listed images ({absent[0]}); unpack "
            "SUN397.tar.gz there again"
        )
    return [place[name] for name in listed]


def _first_sentence(problem: Exception) -> str:
    return re.split(r"(?<=[.!?])\s|\n", str(problem).strip() or type(problem).__name__)[0]
