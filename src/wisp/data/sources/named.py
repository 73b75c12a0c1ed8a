"""Data sets that are known by name: the embedded digits, and torchvision's, downloaded when absent."""

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

from wisp.data.sources.decode import to_rgb
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
        names = getattr(dataset, "classes", None) or range(max(known, default=-1) + 1)
        # Imagenette gives the synonyms of a class; the first one is its usual name
        named = tuple(str(name[0] if isinstance(name, tuple) else name) for name in names)
        self.classes = named if self._targets is not None else None

    def __len__(self) -> int:
        return len(self.dataset)

    def open(self, index: int) -> Image.Image:
        """As `Source.open`."""
        image: Image.Image = self.dataset[index][0]
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
    for key in ("targets", "labels", "_labels"):
        kept = getattr(dataset, key, None)
        if kept is not None:
            return [int(target) for target in torch.as_tensor(kept).tolist()]
    return [int(target) for _, target in getattr(dataset, "_samples", ())]


def _by_flag(split: str) -> dict[str, Any]:
    return {"train": split != "test"}


def _by_name(train: str, test: str) -> Callable[[str], dict[str, Any]]:
    return lambda split: {"split": {"train": train, "test": test}.get(split, split)}


# torchvision class -> its arguments for a split; all of them give (PIL image, class) and download by themselves
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
}
NAMES = ("digits", *_TORCHVISION)


def canonical(name: str) -> str | None:
    """The spelling in `NAMES` that `name` means, or None."""
    return {known.lower(): known for known in NAMES}.get(name.lower())


def cache_folder() -> Path:
    """Where downloads go: $WISP_CACHE, else $XDG_CACHE_HOME/wisp, else ~/.cache/wisp."""
    if own := os.environ.get("WISP_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wisp"


def open_named(name: str, split: str) -> DigitsSource | TorchvisionSource:
    """Open a data set of `NAMES`, downloading it when it is not in the cache.

    Raises:
        WispError: a split that it does not have, no network, or a cache that cannot be written.
    """
    if name == "digits":
        if split not in ("train", "test"):
            raise WispError(f'digits has the splits train and test, not "{split}"')
        return DigitsSource(split)
    from torchvision import datasets

    root = cache_folder() / name
    try:
        root.mkdir(parents=True, exist_ok=True)
        with (root / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the processes of one run would otherwise write the same archive
            dataset = getattr(datasets, name)(str(root), download=True, **_TORCHVISION[name](split))
    except ValueError as problem:
        raise WispError(f'{name} has no split "{split}": {_first_sentence(problem)}') from problem
    except (OSError, RuntimeError) as problem:
        raise WispError(
            f"{name} is not in {root} and could not be downloaded ({_first_sentence(problem)}): "
            "connect to the network, or give a folder of images instead"
        ) from problem
    return TorchvisionSource(name, dataset)


def _first_sentence(problem: Exception) -> str:
    return re.split(r"(?<=[.!?])\s|\n", str(problem).strip() or type(problem).__name__)[0]
