"""What the methods say of themselves, as Markdown: an overview for the README, a section each for `docs/methods.md`."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
from collections.abc import Callable
from types import ModuleType
from typing import Any

from wisp import methods
from wisp.methods.method import Settings
from wisp.session import method_class

Json = dict[str, Any]


def overview() -> str:
    """One line a method."""
    lines = ["| method | what it is | paper | cost | use |", "| --- | --- | --- | --- | --- |"]
    for name in methods.names():
        about = methods.about(name)
        what = about.summary.partition(": ")[2] or about.summary
        called = methods.titled(name).replace(name, f"`{name}`")
        lines.append("| " + " | ".join([called, what.rstrip("."), about.paper, about.cost, about.use]) + " |")
    return "\n".join(lines)


def sections(receipts: dict[str, dict[str, Json]], table: Callable[[dict[str, Json]], str]) -> str:
    """A section a method: its source, its settings, how its paper trains it, and its receipts.

    Args:
        receipts: folder below `results/` -> file stem -> receipt.
        table: makes a table of receipts.
    """
    return "\n\n".join(_section(name, receipts, table) for name in methods.names())


def _section(name: str, receipts: dict[str, dict[str, Json]], table: Callable[[dict[str, Json]], str]) -> str:
    about, module = methods.about(name), methods.load(name)
    parts = [
        f"## `{name}`",
        about.summary,
        f"**Source.** {about.source}",
        f"**Cost.** {about.cost}",
        f"**Use.** {about.use}",
        f"    wisp {_verb(module)} --data DATA --model NAME",
        _settings(module.Config),
        _training(module.SETTINGS),
    ]
    for folder, found in sorted(receipts.items()):
        own = {stem: r for stem, r in found.items() if r["recipe"]["method_name"] == name}
        if own:
            parts.append(f"Receipts of `{folder}`:\n\n{table(own)}")
    return "\n\n".join(parts)


def _verb(module: ModuleType) -> str:
    """How the method is called; one that has a teacher, with it."""
    name, taught = module.__name__.rpartition(".")[2], method_class(module).taught
    given = {"no": "", "online": " --teacher ARCHITECTURE"}.get(taught, " --teacher TEACHER")
    return f"distill {name}{given}" if given else f"pretrain {name}"


def _settings(config: type[Any]) -> str:
    """The fields of a Config with the strings below them."""
    told = field_notes(config)
    lines = ["| `--method.` | default | what it is, and whose value |", "| --- | --- | --- |"]
    for field in dataclasses.fields(config):
        lines.append(f"| `{field.name.replace('_', '-')}` | {field.default} | {told.get(field.name, '')} |")
    return "\n".join(lines)


def field_notes(config: type[Any]) -> dict[str, str]:
    """Field of a dataclass -> the string literal below it, in its own class or in one that it begins with."""
    notes = {}
    for kind in reversed(config.__mro__[:-1]):
        body = ast.parse(inspect.getsource(kind)).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, note in itertools.pairwise(body.body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(note, ast.Expr):
                notes[field.target.id] = " ".join(ast.literal_eval(note.value).split())
    return notes


def _training(settings: dict[str, Settings]) -> str:
    """The paper's training for small and for large images."""
    keys = ["plan", "epochs", "batch_size", "optimizer", "lr", "weight_decay", "warmup_epochs", "source"]
    lines = ["| images | " + " | ".join(key.replace("_", " ") for key in keys) + " |", "| --- " * (len(keys) + 1) + "|"]
    for size, each in settings.items():
        values = [f"{value:g}" if isinstance(value := getattr(each, key), float) else str(value) for key in keys]
        lines.append(f"| {size} | " + " | ".join(values) + " |")
    return "\n".join(lines)
