"""Which picture it is: the seed that it is drawn from, and 64 bits by which two that look alike are told."""

from __future__ import annotations

import hashlib

import numpy as np
from PIL import Image

ALIKE = 4
"""Two pictures of a class are near-duplicates when so many of their 64 bits differ, or fewer. Unrelated ones differ in
about 32. On a plain ground half of the bits say nothing; 4 or fewer of the other 30 differ once in 30,000 pairs."""


def seed_of(seed: int, name: str, number: int, attempt: int) -> int:
    """The seed of one picture, in [0, 2^63): the same whatever else is drawn, and in which batch.

    Args:
        seed: of the whole set.
        name: the class.
        number: of the picture in its class.
        attempt: 0, and one more for every time that it was drawn again.
    """
    digest = hashlib.sha256(f"{seed}/{number}/{attempt}/{name}".encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def bits_of(picture: Image.Image) -> int:
    """64 bits of what a picture looks like: in a grey thumbnail of 8 x 9, whether a pixel is lighter than its left one.

    They survive a change of size, of contrast and of file format; identical pictures have identical bits.
    """
    grey = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.BOX))
    return int("".join("1" if lighter else "0" for lighter in (grey[:, 1:] > grey[:, :-1]).flat), 2)


def black(picture: Image.Image) -> bool:
    """Whether nothing but black is left, as a safety checker leaves it, or a computation that was not finite."""
    return picture.convert("RGB").getextrema() == ((0, 0),) * 3


class Seen:
    """What has been drawn so far, by class."""

    def __init__(self) -> None:
        self._of_class: dict[str, list[int]] = {}
        self._all: set[int] = set()

    def add(self, name: str, bits: int) -> None:
        """Remembers a picture of the class `name`."""
        self._of_class.setdefault(name, []).append(bits)
        self._all.add(bits)

    def __contains__(self, picture: tuple[str, int]) -> bool:
        """Whether a (class, bits) is like one of its class, or has the very bits of any picture."""
        name, bits = picture
        return bits in self._all or any((bits ^ other).bit_count() <= ALIKE for other in self._of_class.get(name, ()))
