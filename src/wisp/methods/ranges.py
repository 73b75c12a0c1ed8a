"""Checks of settings that many methods share; each error names the setting and its range."""

from __future__ import annotations

from wisp.errors import WispError


def positive(**values: float) -> None:
    """Raises WispError unless every value is above 0."""
    for name, value in values.items():
        if not value > 0:
            raise WispError(f"{name} is {value:g}; it must be a number above 0")


def fractions(**values: float) -> None:
    """Raises WispError unless every value lies in [0, 1]."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise WispError(f"{name} is {value:g}; it lies in [0, 1]")
