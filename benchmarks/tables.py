"""Tables of the README and of `docs/`, made of the files under `results/`.

    python -m benchmarks.tables [--check]

A table stands between `<!-- table: NAME -->` and `<!-- end -->`. NAME is a folder of receipts below `results/` (what
`benchmarks.receipts` wrote), a file of JSON lines without its `.jsonl` (what a benchmark printed), `benchmarks`: one
line a ratio, from all such files, `diagnoses`: what `wisp diagnose` found of several runs, or `methods` and
`methods/pages`: what the methods say of themselves. `--check` writes nothing and exits with 1 when a table is not what
the files say.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import diagnoses
from benchmarks import methods as method_notes
from benchmarks.accuracies import accuracies, name_of, place
from benchmarks.markdown import markdown
from benchmarks.ratios import benchmark, ratios
from wisp import recipes
from wisp.errors import WispError

ROOT = Path(__file__).parents[1]
NOTHING = "*Not measured yet.*"
_BLOCK = re.compile(r"(?P<head><!-- table: (?P<name>[\w./-]+) -->\n).*?(?P<tail><!-- end -->)", re.DOTALL)

Json = dict[str, Any]


def documents(root: Path) -> list[Path]:
    """The files in which tables may stand."""
    return [path for path in (root / "README.md", *sorted((root / "docs").glob("*.md"))) if path.is_file()]


def filled(text: str, results: Path) -> str:
    """`text` with every marked table made again.

    Raises:
        WispError: a file below `results` that cannot be read.
    """
    return _BLOCK.sub(lambda block: f"{block['head']}{table(block['name'], results)}\n{block['tail']}", text)


def table(name: str, results: Path) -> str:
    """The table called `name` as Markdown, or a line that says that there is nothing yet."""
    if name == "methods":
        return method_notes.overview()
    if name == "methods/pages":
        folders = [path for path in sorted(results.iterdir()) if path.is_dir() and path.name != "diagnoses"]
        return method_notes.sections({path.name: _receipts(path) for path in folders}, accuracies)
    if name == "diagnoses":
        found = _receipts(results / name)
        order = _order(name, found)
        stems = sorted(found, key=lambda stem: place(name_of(stem), order))
        return markdown(diagnoses.HEAD, diagnoses.rows({row: found[row] for row in stems})) if found else NOTHING
    if (file := results / f"{name}.jsonl").is_file():
        return benchmark(_lines(file))
    if files := sorted((results / name).glob("*.jsonl")):
        return ratios([line for file in files for line in _lines(file)])
    receipts = _receipts(results / name)
    return accuracies(receipts, _order(name, receipts)) if receipts else NOTHING


def _receipts(folder: Path) -> dict[str, Json]:
    """File stem -> receipt."""
    return {path.stem: _parsed(path.read_text(encoding="utf-8"), path) for path in folder.glob("*.json")}


def _lines(file: Path) -> list[Json]:
    return [_parsed(line, file) for line in file.read_text(encoding="utf-8").splitlines() if line]


def _order(folder: str, stems: Iterable[str]) -> Sequence[str]:
    """Rows of the recipe of that name; of one that has another name, of the recipe that has most of its rows."""
    if folder in recipes.names():
        return list(recipes.load(folder).ROWS)
    rows = {name_of(stem) for stem in stems}
    return max((list(recipes.load(name).ROWS) for name in recipes.names()), key=lambda known: len(rows & set(known)))


def _parsed(text: str, path: Path) -> Json:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise WispError(f"{path} is no JSON ({error}); write it again") from error
    if not isinstance(value, dict):
        raise WispError(f"{path} holds no JSON object; write it again")
    return value


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> None:
    """Fills in the tables, or checks them; exits with 2 where a result cannot be read."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when a table is out of date")
    options = parser.parse_args(arguments)
    stale = []
    for path in documents(root):
        text = path.read_text(encoding="utf-8")
        try:
            made = filled(text, root / "results")
        except WispError as error:
            parser.exit(2, f"tables: {error}\n")
        if made != text:
            stale.append(path.relative_to(root).as_posix())
            if not options.check:
                path.write_text(made, encoding="utf-8")
    if options.check and stale:
        parser.exit(1, f"out of date: {', '.join(stale)}; run python -m benchmarks.tables\n")
    if stale:
        print("\n".join(stale))


if __name__ == "__main__":
    main()
