"""The smallest whole run, and what a command answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
