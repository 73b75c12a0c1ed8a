"""Methods: views to named loss terms. ONE FILE PER METHOD; the file name is the name on the command line.

`names` and `summary` read the files as text, so that the command line can list methods without importing torch.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from types import ModuleType

from wisp.errors import WispError, nearest

_SHARED = {"__init__", "method", "branches", "queue", "ranges", "shuffle", "widths"}


def names() -> list[str]:
    """Names of all methods, in alphabetical order."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in _SHARED)


def summary(name: str) -> str:
    """First line of the method's file."""
    path = Path(__file__).with_name(f"{name}.py")
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def load(name: str) -> ModuleType:
    """The method's module: it holds `Config`, `SETTINGS` and one subclass of `Method`.

    Raises:
        WispError: no such method.
    """
    if name not in names():
        raise WispError(f"unknown method {name!r}; nearest: {', '.join(nearest(name, names()))}")
    return importlib.import_module(f"wisp.methods.{name}")
