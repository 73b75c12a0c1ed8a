"""Accuracy and cost of the runs of a recipe, as one Markdown table; the files are `results/RECIPE/ROW.json`."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.markdown import MISSING, markdown
from wisp import methods
from wisp.cost.road import Total, before, machine_name, road, total, with_labels
from wisp.report.formats import THIN, si
from wisp.report.road import bill_of, flops_of

_SEED = re.compile(r"-s\d+$")

Json = dict[str, Any]


def name_of(stem: str) -> str:
    """The row's name without its seed: `xd` of `xd-s1`."""
    return _SEED.sub("", stem)


def place(row: str, order: Sequence[str]) -> tuple[int, str]:
    """Where a row stands in the order of its recipe; others behind, by their names."""
    return (order.index(row) if row in order else len(order), row)


def accuracies(receipts: dict[str, Json], order: Sequence[str] = ()) -> str:
    """Accuracy and cost of runs: the exported encoder on the run's own line, its host on the next.

    Args:
        receipts: file stem (`xd`, `xd-s1`) -> receipt; runs that differ in nothing but the seed share a line.
        order: row names in the order of their recipe.
    """
    runs: dict[tuple[str, int], list[Json]] = {}
    for stem, receipt in sorted(receipts.items(), key=lambda item: place(name_of(item[0]), order)):
        runs.setdefault((name_of(stem), receipt["budget"]["epochs"]), []).append(receipt)
    ks = sorted(
        {k for receipt in receipts.values() for e in receipt["encoders"].values() for k in e["knn"] or ()}, key=int
    )
    costs = [receipt["cost"] for receipt in receipts.values()]
    taught = ["its teacher"] if any("teacher" in cost for cost in costs) else []
    summed = ["in all"] if any(len(road(cost)) > 1 for cost in costs) else []
    last = ["training", *taught, *summed, "minutes", "images/s", "epochs", "seeds"]
    own = ["top-1"] if any("classifier" in e for r in receipts.values() for e in r["encoders"].values()) else []
    head = ["run", "encoder", *(f"kNN-{k}" for k in ks), "linear", *own, *last]
    rows = [
        [name, "1x", *_scores(same, ks, own), *[""] * len(last)] for name, same in _untrained(receipts.values()).items()
    ]
    for (name, epochs), same in runs.items():
        same.sort(key=lambda receipt: int(receipt["seed"]))
        cost = [receipt["cost"] for receipt in same]
        paid = [
            _spaced(si(statistics.mean(c["total_flops"] for c in cost), "FLOP")),
            *(_teacher(cost[0]) for _ in taught),
            *(_spaced(flops_of(_total(cost), "FLOP")) for _ in summed),
            _spread([c["seconds"] / 60 for c in cost], "{:,.0f}"),
            _spread([c["images_per_s"] for c in cost], "{:,.0f}"),
            str(epochs),
            ", ".join(str(receipt["seed"]) for receipt in same),
        ]
        for position, encoder in enumerate(same[0]["encoders"]):
            scores = _scores([receipt["encoders"][encoder] for receipt in same], ks, own)
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
    price = _spaced(bill_of(total(before(cost))))
    return f"{bill['origin']}{with_labels(bill.get('labels'))}: {price}"


def _total(costs: Sequence[Json]) -> Total:
    """The whole road, the mean over the seeds; of several certainties the least."""
    paid = total([part for cost in costs for part in road(cost)])
    return replace(paid, flops=round(paid.flops / len(costs)))


def _spaced(text: str) -> str:
    """With the spaces that a keyboard has, for a file that is read as text too."""
    return text.replace(THIN, " ")


def _reading(receipt: Json) -> str:
    """What a row's name ends with where its method is a reading of a paper that nobody here has read."""
    name = str(receipt["recipe"].get("method_name", ""))
    return methods.titled(name).removeprefix(name)


def _label(encoder: str) -> str:
    """`2x host` of SACL; a narrow width, or a slow copy, has its name."""
    return f"{encoder} host" if encoder.endswith("x") else encoder


def _untrained(receipts: Iterable[Json]) -> dict[str, list[Json]]:
    """Row -> one entry a seed: an untrained encoder depends on its model and the images beside it, and on no method."""
    found: dict[tuple[str, int], dict[int, Json]] = {}
    for receipt in receipts:
        key = receipt["recipe"]["model"], receipt["budget"]["images"]
        found.setdefault(key, {})[receipt["seed"]] = receipt["untrained"] or {}
    models, counts = ({key[place] for key in found} for place in (0, 1))
    rows = {}
    for (model, images), seeds in found.items():
        among = f", {images:,} images" if len(counts) > 1 else ""
        rows[f"untrained{f' {model}' if len(models) > 1 else ''}{among}"] = list(seeds.values())
    return rows


def _scores(entries: list[Json], ks: Sequence[str], own: Sequence[str]) -> list[str]:
    found = [[(entry.get("knn") or {}).get(k) for entry in entries] for k in ks]
    found.append([entry.get("linear") for entry in entries])
    found += [[(entry.get("classifier") or {}).get("top1") for entry in entries] for _ in own]
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
            f"{all_of(lambda r: machine_name(r['hardware']))}. Commit {all_of(lambda r: r['commit'])}.",
        ]
    )
