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
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import diagnoses
from benchmarks import methods as method_notes
from wisp import methods, recipes
from wisp.errors import WispError
from wisp.train.blocks import flops

ROOT = Path(__file__).parents[1]
MISSING = "–"
NOTHING = "*Not measured yet.*"
_BLOCK = re.compile(r"(?P<head><!-- table: (?P<name>[\w./-]+) -->\n).*?(?P<tail><!-- end -->)", re.DOTALL)
_SEED = re.compile(r"-s\d+$")
_ABOUT = ("bench", "repeats", "threads", "cpu", "cores", "amx", "load", "commit", "versions", "warmup")
"""Keys of a benchmark's line that say where it was measured: they go below the table."""

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
        return (
            markdown(diagnoses.HEAD, diagnoses.rows({row: found[row] for row in _sorted(found)})) if found else NOTHING
        )
    if (file := results / f"{name}.jsonl").is_file():
        return benchmark(_lines(file))
    if files := sorted((results / name).glob("*.jsonl")):
        return ratios([line for file in files for line in _lines(file)])
    receipts = _receipts(results / name)
    return accuracies(receipts, _order(receipts)) if receipts else NOTHING


def _receipts(folder: Path) -> dict[str, Json]:
    """File stem -> receipt."""
    return {path.stem: _parsed(path.read_text(encoding="utf-8"), path) for path in folder.glob("*.json")}


def _lines(file: Path) -> list[Json]:
    return [_parsed(line, file) for line in file.read_text(encoding="utf-8").splitlines() if line]


# receipts ------------------------------------------------------------------------------------------------------------


def accuracies(receipts: dict[str, Json], order: Sequence[str] = ()) -> str:
    """Accuracy and cost of runs: the exported encoder on the run's own line, its host on the next.

    Args:
        receipts: file stem (`xd`, `xd-s1`) -> receipt; runs that differ in nothing but the seed share a line.
        order: row names in the order of their recipe.
    """
    runs: dict[tuple[str, int], list[Json]] = {}
    for stem, receipt in sorted(receipts.items(), key=lambda item: _place(_SEED.sub("", item[0]), order)):
        runs.setdefault((_SEED.sub("", stem), receipt["budget"]["epochs"]), []).append(receipt)
    ks = sorted(
        {k for receipt in receipts.values() for e in receipt["encoders"].values() for k in e["knn"] or ()}, key=int
    )
    taught = ["its teacher", "in all"] if any("teacher" in receipt["cost"] for receipt in receipts.values()) else []
    last = ["training", *taught, "minutes", "images/s", "epochs", "seeds"]
    head = ["run", "encoder", *(f"kNN-{k}" for k in ks), "linear", *last]
    rows = [[name, "1x", *_scores(same, ks), *[""] * len(last)] for name, same in _untrained(receipts.values()).items()]
    for (name, epochs), same in runs.items():
        same.sort(key=lambda receipt: int(receipt["seed"]))
        cost = [receipt["cost"] for receipt in same]
        paid = [
            flops(statistics.mean(c["total_flops"] for c in cost)),
            *([_teacher(cost[0]), _total(cost[0])] if taught else []),
            _spread([c["seconds"] / 60 for c in cost], "{:,.0f}"),
            _spread([c["images_per_s"] for c in cost], "{:,.0f}"),
            str(epochs),
            ", ".join(str(receipt["seed"]) for receipt in same),
        ]
        for position, encoder in enumerate(same[0]["encoders"]):
            scores = _scores([receipt["encoders"][encoder] for receipt in same], ks)
            row = f"{name}{_reading(same[0])}"
            rows.append(
                ["", _label(encoder), *scores, *[""] * len(last)] if position else [row, encoder, *scores, *paid]
            )
    return f"{markdown(head, rows)}\n\n{_conditions(list(receipts.values()))}"


def _teacher(cost: Json) -> str:
    """Who taught, whether from labels, and what that training cost, which stands beside the student's."""
    if "teacher" not in cost:
        return ""
    bill = cost["teacher"]
    if bill["flops"] == 0:
        return "part of it"  # learned beside the student, from fresh weights
    price = "unknown" if bill["flops"] is None else f"{flops(bill['flops'])} ({bill['certainty']})"
    return f"{bill['origin']}{', with labels' if bill.get('labels') else ''}: {price}"


def _total(cost: Json) -> str:
    """Training and teacher together."""
    paid = cost["teacher"]["flops"] if "teacher" in cost else 0
    return "unknown" if paid is None else flops(cost["total_flops"] + paid)


def _reading(receipt: Json) -> str:
    """What a row's name ends with where its method is a reading of a paper that nobody here has read."""
    name = str(receipt["recipe"].get("method_name", ""))
    return methods.titled(name).removeprefix(name)


def _label(encoder: str) -> str:
    """`2x host` of SACL; a narrow width, or a slow copy, has its name."""
    return f"{encoder} host" if encoder.endswith("x") else encoder


def _untrained(receipts: Iterable[Json]) -> dict[str, list[Json]]:
    """Row -> one entry a seed: an untrained encoder depends on its model, and on no method."""
    found: dict[str, dict[int, Json]] = {}
    for receipt in receipts:
        found.setdefault(receipt["recipe"]["model"], {})[receipt["seed"]] = receipt["untrained"] or {}
    one = len(found) == 1
    return {"untrained" if one else f"untrained {model}": list(seeds.values()) for model, seeds in found.items()}


def _scores(entries: list[Json], ks: Sequence[str]) -> list[str]:
    found = [[(entry.get("knn") or {}).get(k) for entry in entries] for k in ks]
    found.append([entry.get("linear") for entry in entries])
    return [_spread([value for value in values if value is not None], "{:.2f}") for values in found]


def _spread(values: list[float], form: str) -> str:
    """The mean, and in brackets the lowest and highest of several."""
    if not values:
        return MISSING
    mean = form.format(statistics.mean(values))
    low, high = form.format(min(values)), form.format(max(values))
    return mean if low == high else f"{mean} ({low} to {high})"


def _conditions(receipts: list[Json]) -> str:
    """What holds for all lines of a table, from the receipts."""

    def all_of(pick: Callable[[Json], object]) -> str:
        return " / ".join(sorted({str(pick(receipt)) for receipt in receipts}))

    return " ".join(
        [
            f"{all_of(lambda r: r['recipe']['model'])} on {all_of(lambda r: r['recipe']['data'])},",
            f"{all_of(lambda r: format(r['budget']['images'], ','))} images,",
            f"batch {all_of(lambda r: r['budget']['batch_size'])}, {all_of(lambda r: r['resolved']['precision'])}.",
            "Accuracy in percent of the encoder after the last epoch, 1x as exported,",
            f"on {all_of(lambda r: format(r['protocol']['questions'], ','))} held-out images:",
            "kNN by cosine with temperature 0.07; linear probe on frozen features, test set read once.",
            "FLOPs of all training steps, forward and backward; a multiply-add is two. Minutes without evaluation.",
            f"{all_of(_hardware)}. Commit {all_of(lambda r: r['commit'])}.",
        ]
    )


def _hardware(receipt: Json) -> str:
    about = receipt["hardware"]
    return f"{about['name']}, {about['threads']} threads" if about["device"] == "cpu" else str(about["name"])


def _order(stems: Iterable[str]) -> Sequence[str]:
    """Rows of the recipe that has most of these."""
    rows = {_SEED.sub("", stem) for stem in stems}
    return max((list(recipes.load(name).ROWS) for name in recipes.names()), key=lambda known: len(rows & set(known)))


def _sorted(stems: Iterable[str]) -> list[str]:
    """Stems in the order of their recipe's rows."""
    order = _order(stems)
    return sorted(stems, key=lambda stem: _place(_SEED.sub("", stem), order))


def _place(row: str, order: Sequence[str]) -> tuple[int, str]:
    return (order.index(row) if row in order else len(order), row)


# benchmarks ----------------------------------------------------------------------------------------------------------


def benchmark(lines: list[Json]) -> str:
    """What a benchmark measured, one line a row; columns in the order in which they first appear."""
    flat = [_flat({key: value for key, value in line.items() if key not in _ABOUT}) for line in lines]
    head = list(dict.fromkeys(key for row in flat for key in row))
    rows = [[_cell(row.get(key)) for key in head] for row in flat]
    told = [key for key in _ABOUT if key not in ("bench", "load", "amx")]
    about = {key: dict.fromkeys(_note(line[key]) for line in lines if key in line) for key in told}
    notes = "; ".join(f"{key} {' / '.join(values)}" for key, values in about.items() if values)
    return f"{markdown([key.replace('_', ' ') for key in head], rows)}\n\nMedians of interleaved repeats. {notes}."


def ratios(lines: list[Json]) -> str:
    """Every ratio that the benchmarks exist for, one a line, beside what it must reach; the last word counts."""
    found: dict[str, list[str]] = {}
    for line in lines:
        for key, (what, limit) in _RATIOS.items():
            if key in line:
                told = what.format_map({"method": "Barlow Twins"} | line)  # of lines that name none
                found[told] = [told, f"{line[key]:.2f}", limit(line), str(line["cpu"]), str(line["threads"])]
    return markdown(["ratio of times", "measured", "limit", "processor", "threads"], list(found.values()))


def _at_least(limits: dict[int, float]) -> Callable[[Json], str]:
    return lambda line: f"at least {limits[line['px']]:g}" if line["px"] in limits else MISSING


def _at_most(line: Json) -> str:
    return MISSING if line.get("limit") is None else f"at most {line['limit']:.2f}"


_RATIOS: dict[str, tuple[str, Callable[[Json], str]]] = {
    "vs_torchvision": ("two views, {px} px, plan {plan}: torchvision / wisp", _at_least({32: 15, 224: 4})),
    "vs_kornia": ("two views, {px} px, plan {plan}: kornia / wisp", _at_least({32: 3, 224: 2})),
    "sliced_over_masked": ("SACL-XD step, K = {k}, {precision}: sliced / masked", _at_most),
    "seed_over_parts": ("SEED step, {teacher} teaches {model}, {precision}: whole / its two passes", _at_most),
    "xd_over_barlow": ("step of batch {batch}, {precision}: XD / Barlow Twins", _at_most),
    "widths_over_masked": ("SlimCLR step, {model}, widths {widths}, batch {batch}: sliced / masked", _at_most),
    "step_over_lightly": ("step of {method}, batch {batch}, {precision}: wisp / lightly", _at_most),
    "wisp_over_lightly": ("epoch of {method}, {precision}: wisp / lightly in fp32", _at_most),
}
"""Key of a benchmark's line -> what it says, and its limit."""


def _flat(row: Json) -> Json:
    flat: Json = {}
    for key, value in row.items():
        flat |= (
            {f"{key}: {inner}": number for inner, number in value.items()} if isinstance(value, dict) else {key: value}
        )
    return flat


def _cell(value: object) -> str:
    if value is None:
        return MISSING
    if isinstance(value, float) and not value.is_integer():
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}"
    return f"{value:,.0f}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def _note(value: object) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


# text ----------------------------------------------------------------------------------------------------------------


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; columns of numbers are set to the right."""
    rows = [list(row) for row in rows]
    numeric = [all(not row[i] or row[i][0] in f"0123456789-{MISSING}" for row in rows) for i in range(len(head))]
    rule = ["---:" if right else "---" for right in numeric]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


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
