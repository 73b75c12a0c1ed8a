"""Methods: views to named loss terms. ONE FILE PER METHOD; the file name is the name on the command line.

What several of them are made of lies in `parts/`, what all of them promise in `method.py`.

`names` and `summary` read the files as text, so that the command line can list methods without importing torch.
"""

from __future__ import annotations

import ast
import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from wisp.errors import WispError, nearest

_CONTRACT = {"__init__", "method"}


def names() -> list[str]:
    """Names of all methods, in alphabetical order."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in _CONTRACT)


@dataclass(frozen=True)
class About:
    """What a method's file says of it.

    Attributes:
        summary: one line.
        source: papers, code, and which reading this is.
        cost: beside Barlow Twins.
        use: for whom it is.
    """

    summary: str
    source: str
    cost: str
    use: str

    @property
    def reading(self) -> bool:
        """Whether the paper could not be read, so that the method is what others tell of it: `Source: A reading: `."""
        return self.source.startswith("A reading: ")

    @property
    def paper(self) -> str:
        """Authors and year of the first paper in the source."""
        found = re.search(r"[A-Z][\w ,.&]*? \d{4}", self.source)
        return found[0] if found else ""


def about(name: str) -> About:
    """The method's own words, without importing it.

    Raises:
        WispError: its file lacks one of the notes.
    """
    path = Path(__file__).with_name(f"{name}.py")
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    words = ("Source", "Cost", "Use")
    notes = [re.search(rf"^{word}: (.*?)(?=\n\n|\n[A-Z]\w+: |\Z)", text, re.M | re.S) for word in words]
    if None in notes:
        raise WispError(f"{path.name} must say its {', '.join(words)} at the top")
    return About(text.partition("\n")[0], *(" ".join(note[1].split()) for note in notes if note))


def titled(name: str) -> str:
    """The method's name as every table shows it: one that is a reading says so. Any other name is left alone."""
    return f"{name} (a reading)" if name in names() and about(name).reading else name


def refuse_untaught(name: str, settings: object) -> None:
    """Raises WispError where a method of these settings has no teacher, and nothing would be distilled."""
    if not hasattr(settings, "teacher"):
        raise WispError(f"{name} has no teacher; use wisp pretrain {name}")


def load(name: str) -> ModuleType:
    """The method's module: it holds `Config`, `SETTINGS` and one subclass of `Method`.

    Raises:
        WispError: no such method.
    """
    if name not in names():
        raise WispError(f"unknown method {name!r}; nearest: {', '.join(nearest(name, names()))}")
    return importlib.import_module(f"wisp.methods.{name}")
