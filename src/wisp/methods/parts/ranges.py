"""Checks of settings that many methods share; each error names the setting and its range, each warning a number."""

from __future__ import annotations

from wisp.errors import WispError

IMAGES_A_PROTOTYPE = 10
"""Ours: below the least of the published settings (SwAV 427 and DINO 20 on ImageNet, solo-learn 17 and 12 on CIFAR)."""


def positive(**values: float) -> None:
    """Raises WispError unless every value is above 0."""
    for name, value in values.items():
        if not value > 0:
            raise WispError(f"{name} is {value:g}; it must be a number above 0")


def not_negative(**values: float) -> None:
    """Raises WispError unless every value is 0 or above."""
    for name, value in values.items():
        if not value >= 0:
            raise WispError(f"{name} is {value:g}; it must be 0 or more")


def fractions(**values: float) -> None:
    """Raises WispError unless every value lies in [0, 1]."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise WispError(f"{name} is {value:g}; it lies in [0, 1]")


def crowded(prototypes: int, images: int) -> list[str]:
    """A warning where training images are too few for so many prototypes: most of these would stand for nothing."""
    enough = images // IMAGES_A_PROTOTYPE
    if prototypes <= max(2, enough):
        return []
    return [
        f"{prototypes:,} prototypes for {images:,} images are fewer than {IMAGES_A_PROTOTYPE} images for each; "
        f"--method.prototypes {max(2, enough)} or fewer suit them"
    ]
