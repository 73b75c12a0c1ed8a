"""The smallest whole run, pictures for it, and what a command answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SMALL = [
    *("--model", "resnet8", "--image-size", "16", "--batch-size", "8", "--epochs", "2"),
    *("--method.hidden", "32", "--method.out", "32"),
]
"""The smallest run: with 24 pictures three steps an epoch."""


@dataclass(frozen=True)
class Answer:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str

    def refusal(self) -> str:
        """The one line of a command that was given bad input."""
        assert self.code == 2, (self.code, self.out, self.err)
        assert self.err.startswith("wisp: ")
        assert self.err.count("\n") == 1, self.err
        assert self.err.endswith("\n")
        assert "Traceback" not in self.out
        return self.err.removeprefix("wisp: ").rstrip()


Wisp = Callable[..., Answer]


def picture(seed: int, side: int = 18) -> Image.Image:
    """A smooth colour picture, another one for every seed."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)


def write_photos(root: Path, side: int = 18) -> Path:
    """24 pictures of `side` pixels without labels in the folder `root`."""
    return _written(root, [f"{k:02}.png" for k in range(24)], side)


def write_classes(root: Path, side: int = 18) -> Path:
    """24 pictures of `side` pixels in two classes in the folder `root`."""
    return _written(root, [f"{'ab'[k % 2]}/{k:02}.png" for k in range(24)], side)


def _written(root: Path, files: Sequence[str], side: int) -> Path:
    for seed, file in enumerate(files):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        picture(seed, side).save(root / file)
    return root
