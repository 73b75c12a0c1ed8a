"""Whole experiments by name. ONE FILE PER RECIPE; the file name is the recipe's name.

A recipe's file holds `ROWS`, the method settings of each row of its table, and `recipe`, which called with a row's name
returns its `Run`. No row names its teacher, which is a place on somebody's machine: who runs the recipe does, or a row
called `teacher`, trained before the others, is theirs.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from wisp.errors import WispError, nearest
from wisp.run import Run

TEACHER = "teacher"
"""The row that trains the teacher of the others, where a recipe has one; it is the first."""


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


@dataclass(frozen=True)
class Recipe:
    """The runs of a table.

    Attributes:
        rows: row -> the method's settings.
        common: fields of `Run` that all rows share.
        own: row -> fields of its own.
    """

    rows: Mapping[str, Any]
    common: Mapping[str, Any]
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __call__(
        self,
        row: str | None = None,
        *,
        data: str | None = None,
        val: str | None = None,
        epochs: int | None = None,
        seed: int = 0,
        teacher: Mapping[str, Any] | None = None,
    ) -> Run[Any]:
        """One row.

        Args:
            row: its name; the first unless given.
            data: training images; those of the recipe's name unless given.
            val: labelled images for evaluation.
            epochs: the recipe's unless given.
            seed: of weights, order and views.
            teacher: settings of the teacher (`teacher`, `teacher_model`, ...), for rows that are taught and do not name
                one: that of an online method is an architecture. A row leaves out what its method does not ask.

        Raises:
            WispError: no such row, or settings of a teacher that do not belong together.
        """
        row = row or next(iter(self.rows))
        if row not in self.rows:
            raise WispError(f"unknown row {row!r}; nearest: {', '.join(nearest(row, self.rows))}")
        given = {"data": data, "epochs": epochs}
        fields = {**self.common, **self.own.get(row, {}), **{key: value for key, value in given.items() if value}}
        method = self.rows[row]
        if teacher and vars(method).get("teacher", method) is None:  # it has one, and names none
            method = dataclasses.replace(method, **{key: teacher[key] for key in teacher if hasattr(method, key)})
        return Run(**fields, val=val, seed=seed, method=method)
