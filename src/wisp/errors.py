"""The one error that a user is meant to read: a single line that says what is wrong and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class WispError(Exception):
    """Bad input or an unusable environment; the command line prints its text on one line and exits with code 2."""


def nearest(name: str, choices: Iterable[str], n: int = 3) -> list[str]:
    """The `n` choices that look most like `name`, best first."""
    return difflib.get_close_matches(name, list(choices), n=n, cutoff=0.0)
