"""Whole experiments by name. ONE FILE PER RECIPE; the file name is the recipe's name.

A recipe holds `ROWS`, the method settings of each row of its table, and `recipe(row, ...)`, which returns that row's
`Run`.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from wisp.errors import WispError, nearest


def names() -> list[str]:
    """Names of all recipes, in alphabetical order."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__")


def load(name: str) -> ModuleType:
    """The recipe's module: it holds `ROWS` and `recipe`.

    Raises:
        WispError: no such recipe.
    """
    if name not in names():
        raise WispError(f"unknown recipe {name!r}; nearest: {', '.join(nearest(name, names()))}")
    return importlib.import_module(f"wisp.recipes.{name}")


def settings_of(row: str, rows: dict[str, object]) -> object:
    """The method settings of `row`.

    Raises:
        WispError: no such row.
    """
    if row not in rows:
        raise WispError(f"unknown row {row!r}; nearest: {', '.join(nearest(row, rows))}")
    return rows[row]
