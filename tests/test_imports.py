"""Imports go one way, and heavy packages are imported in the one place that is meant for them."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

import wisp

ROOT = Path(__file__).parents[1]
PACKAGE = Path(wisp.__file__).parent
CONTRACT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"][0]


def test_imports_go_one_way(capsys: pytest.CaptureFixture[str]) -> None:
    code = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True, no_logo=True)
    assert code == EXIT_STATUS_SUCCESS, capsys.readouterr().out
    assert "Contracts: 1 kept, 0 broken." in capsys.readouterr().out


def test_every_module_has_its_layer() -> None:
    layers = {name.strip().removeprefix("wisp.") for layer in CONTRACT["layers"] for name in layer.split("|")}
    modules = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert modules - {"__init__"} == layers


def imported(path: Path) -> set[str]:
    """Top-level packages that a file imports anywhere in it."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0}
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize(
    ("package", "places"),
    [
        ("timm", {"encoders/stock.py", "train/optimizers.py", "export/load_narrow.py"}),  # models; LARS; no wisp
        ("tyro", {"arguments.py"}),
        ("lightning_fabric", {"training.py", "train/loop.py", "train/setup.py", "train/journal.py"}),
        ("wandb", {"train/journal.py"}),
        ("diffusers", {"synthesis/pipeline.py"}),
        ("onnxruntime", {"export/onnx.py"}),
    ],
)
def test_a_package_is_imported_in_its_place(package: str, places: set[str]) -> None:
    found = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if package in imported(path)}
    assert found == places


def test_parts_of_methods_know_no_method() -> None:
    """`imported` gives packages only; here whole names are asked about."""
    for path in (PACKAGE / "methods" / "parts").glob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        found = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
        known = {
            name for name in found if name.startswith("wisp.methods") and not name.startswith("wisp.methods.parts.")
        }
        assert known <= {"wisp.methods.method"}, path.name


HEAVY = ("torch", "timm", "numpy", "PIL", "rich", "pyarrow", "sklearn", "wisp.api")
ANSWERS = """
import contextlib, io, sys
from wisp.cli import main

for words in WORDS:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            main(words)
        except SystemExit:
            pass
    assert out.getvalue() or err.getvalue(), words
    assert not set(HEAVY) & set(sys.modules), (words, set(HEAVY) & set(sys.modules))
"""


def test_help_and_lists_need_no_torch() -> None:
    """So they answer at once."""
    words = [[], ["--help"], ["--version"], ["list"], ["list", "methods"], ["list", "encoders"], ["list", "data"]]
    words += [
        ["pretrian"],
        ["pretrain", "sacl"],
        ["report", "--help"],
        ["report", "nowhere"],
        ["evaluate"],
        ["synthesize"],
    ]
    program = ANSWERS.replace("WORDS", repr(words)).replace("HEAVY", repr(HEAVY))
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
