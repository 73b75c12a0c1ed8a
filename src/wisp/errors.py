"""The one error that a user is meant to read: a single line that says what is wrong and what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class WispError(Exception):
    """Bad input or an unusable environment; the command line prints its text on one line and exits with code 2."""


def nearest(name: str, choices: Iterable[str], n: int = 3) -> list[str]:
    """The `n` choices that look most like `name`, best first."""
    return difflib.get_close_matches(name, list(choices), n=n, cutoff=0.0)


def suggestion(name: str, choices: Iterable[str]) -> str:
    """`; nearest: one, two, three` to end a message with; nothing where there is no choice. Case does not count."""
    known = {choice.lower(): choice for choice in choices}
    close = [known[each] for each in nearest(name.lower(), known)]
    return f"; nearest: {', '.join(close)}" if close else ""


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its kind where it says nothing."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


@contextmanager
def one_line(problem: str, remedy: str) -> Iterator[None]:
    """Turns whatever another library raises inside of it into a `WispError`: `problem (its reason); remedy`.

    The reason is the first line of the error that began it. Writing a file does not belong in it: what `wisp.files`
    says of a full disk is to the point already.
    """
    try:
        yield
    except WispError:
        raise
    except Exception as error:  # exporters, runtimes and model builders have no common class of error
        first: BaseException = error
        while first.__cause__ is not None:
            first = first.__cause__
        text = re.sub(r"\x1b\[[0-9;]*m", "", str(first))  # torch colours its messages
        reason = next((line.strip() for line in text.splitlines() if line.strip()), type(first).__name__)
        raise WispError(f"{problem} ({reason}); {remedy}") from error
