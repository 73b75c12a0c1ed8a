"""What `metrics.jsonl` holds, as charts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from wisp.cost.road import total
from wisp.report.charts import Level, Mark, Series, line_chart, scatter
from wisp.report.formats import UNKNOWN, percent, si
from wisp.report.road import bill_of
from wisp.report.runs import RunRecord
from wisp.report.scored import TOP1, Json

HEALTH = {
    "effective_rank": ("Effective rank", "Directions in use; 1 is a collapse."),
    "std": ("Spread of the features", "1 is even, 0 is a collapse."),
    "alignment": ("Alignment", "Distance of two views of an image."),
    "uniformity": ("Uniformity", "Lower is more even; 0 is a collapse."),
}
FLOPS_SPENT = "training FLOP"
SIZES = {"forward_flops": ("operations", "FLOP of one image"), "parameters": ("parameters", "parameters")}


def run_charts(record: RunRecord) -> list[str]:
    """Every curve of one run: loss, terms, kNN, the method's own diagnostics, health, speed."""
    charts = []
    if record.steps:
        loss = Series("loss", _over(record.steps, "step", ("loss",)))
        charts.append(line_chart("Loss", [loss], x_label="step", log_y=True))
    terms = _keys(record.steps, "terms")
    if len(terms) > 1:
        lines = [Series(term, _over(record.steps, "step", ("terms", term)), i) for i, term in enumerate(terms)]
        hint = "Weighted; their sum is the loss."
        charts.append(line_chart("Loss terms", lines, x_label="step", log_y=True, hint=hint))
    charts += [chart] if (chart := top1_chart(record)) else []
    charts += [knn_chart(record)] if _knn(record) else []
    diagnostics = _keys(record.epochs, "diagnostics")
    inner = [key for key in diagnostics if "inner_" in key]
    if inner:
        lines = [Series(key, _over(record.epochs, "epoch", ("diagnostics", key)), i) for i, key in enumerate(inner)]
        hint = "Sub-network against its host."
        charts.append(line_chart("Inner correlation and decorrelation", lines, x_label="epoch", hint=hint))
    for key in _keys(record.epochs, "health"):
        title, hint = HEALTH.get(key, (key, ""))
        line = Series(key, _over(record.epochs, "epoch", ("health", key)), 5)
        charts += [line_chart(title, [line], x_label="epoch", hint=hint)] if line.points else []
    for key in diagnostics:
        if key not in inner:
            line = Series(key, _over(record.epochs, "epoch", ("diagnostics", key)), 2)
            charts.append(line_chart(key, [line], x_label="epoch"))
    for key, title in (("lr", "Learning rate"), ("images_per_s", "Images per second")):
        if any(key in row for row in record.steps):
            charts.append(line_chart(title, [Series(key, _over(record.steps, "step", (key,)), 7)], x_label="step"))
    return charts


def top1_chart(record: RunRecord) -> str:
    """The accuracy of the classifier per epoch, beside that of its teacher; nothing where no monitor gave it."""
    names = dict.fromkeys(name for row in record.epochs for name in row["top1"])
    lines = [Series(name, _over(record.epochs, "epoch", ("top1", name)), i) for i, name in enumerate(names)]
    lines = [line for line in lines if len(line.points) > 1]
    if not lines:
        return ""
    levels = [Level(f"teacher {judge.name}", judge.top1)] if (judge := record.judge) else []
    hint = "The last point is the final evaluation." if record.result else "On held-out images."
    title = "Top-1 of the classifier"
    return line_chart(title, lines, x_label="epoch", levels=levels, as_percent=True, hint=hint)


def knn_chart(record: RunRecord) -> str:
    """The monitor's kNN accuracy per epoch: a colour per encoder, dashes for the larger k."""
    lines = []
    for colour, (name, ks) in enumerate(_knn(record).items()):
        for i, k in enumerate(ks):
            points = _over(record.epochs, "epoch", ("knn", name, k))
            lines.append(Series(f"{name} kNN-{k}", points, colour, dashed=i > 0))
    levels = [Level(f"untrained {name}", value) for name, value in list(record.untrained.protocols.items())[:1]]
    hint = "The last point is the final evaluation." if record.result else "On held-out images."
    return line_chart("kNN accuracy", lines, x_label="epoch", levels=levels, as_percent=True, hint=hint)


def tradeoff_charts(records: Sequence[RunRecord], keys: Sequence[str] = ()) -> list[str]:
    """Accuracy against training cost, one chart per protocol: lines by the monitor, dots by the final evaluation.

    The whole road counts, a teacher's own training too; nobody knows the cost of a part of it at a dot with "+ ?".

    Args:
        records: one run, or those to compare.
        keys: a short key per run; with keys, dots carry them and each run has its colour.
    """
    charts = []
    protocols = _protocols(records)
    if not keys:  # one run has one cost
        protocols = [TOP1] if TOP1 in protocols else protocols[:1]
    for protocol in protocols:
        marks, trails = [], []
        for number, record in enumerate(records):
            step, own = record.cost.get("step_flops"), record.cost.get("total_flops")
            whole = total(record.road)  # of an unknown bill, too: the dot cannot stand further to the left
            least = whole.flops - (record.road[-1].flops or 0 if record.road else 0)
            more = "" if record.teacher is None else f", its teacher's training: {bill_of(record.teacher_bill)}"
            for order, name in enumerate(record.encoders):
                colour = number if keys else order
                label = f"{keys[number]} {name}" if keys else name
                watched = {TOP1: ("top1", name)}.get(protocol, ("knn", name, protocol.removeprefix("kNN-")))
                way = [(least + x * float(step or 0), y) for x, y in _over(record.epochs, "step", watched) if step]
                trails.append(Series(label, way, colour, dashed=order > 0))
                score = record.accuracy(name).protocols.get(protocol)
                if score is None or not own:
                    continue
                title = f"{record.name} · {name}\n{protocol} {percent(score)}\n{si(whole.flops, 'FLOP')}{more}"
                shown = f"{label} + ?" if whole.certainty == UNKNOWN else label
                marks.append(Mark(shown, whole.flops, score, title, colour, hollow=order > 0))
        levels = []
        if len(records) == 1 and protocol in records[0].untrained.protocols:
            levels = [Level("untrained", records[0].untrained.protocols[protocol])]
        charts.append(scatter(f"{protocol} against cost", marks, x_label=FLOPS_SPENT, trails=trails, levels=levels))
    return charts


def size_charts(record: RunRecord) -> list[str]:
    """Accuracy of a run's encoders against what each costs its user; a chart per protocol and kind of size.

    Empty where there is nothing to weigh: one encoder, no receipt yet, or no labels.
    """
    charts = []
    for protocol in _protocols([record]):
        for key, (name, unit) in SIZES.items():
            marks = []
            for encoder in record.encoders:
                amount, score = record.encoder(encoder).get(key), record.accuracy(encoder).protocols.get(protocol)
                if amount and score is not None:
                    title = f"{encoder}\n{protocol} {percent(score)}\n{si(amount, unit.partition(' ')[0])}"
                    marks.append(Mark(encoder, float(amount), score, title))
            if len(marks) > 1:
                way = Series(protocol, sorted((mark.x, mark.y) for mark in marks))
                charts.append(scatter(f"{protocol} against {name}", marks, x_label=unit, trails=[way]))
    return charts


def overlaid_knn(records: Sequence[RunRecord], keys: Sequence[str]) -> str:
    """The first encoder's kNN per epoch, one colour per run, at the smallest k of each."""
    lines = []
    for number, (record, key) in enumerate(zip(records, keys, strict=True)):
        for name, ks in list(_knn(record).items())[:1]:
            points = _over(record.epochs, "epoch", ("knn", name, ks[0]))
            lines.append(Series(f"{key} {name} kNN-{ks[0]}", points, number, dashed=number >= 8))
    return line_chart("kNN accuracy by epoch", lines, x_label="epoch", as_percent=True)


def _protocols(records: Sequence[RunRecord]) -> list[str]:
    """The numbers that people quote: the smallest k, the linear probe, and a classifier's own."""
    names = {p for record in records for name in record.encoders for p in record.accuracy(name).protocols}
    knn = sorted((name for name in names if name.startswith("kNN-")), key=lambda name: int(name[4:]))
    return knn[:1] + [name for name in ("linear", TOP1) if name in names]


def _knn(record: RunRecord) -> dict[str, list[str]]:
    """Encoder name -> every k that the monitor reported, rising."""
    found: dict[str, list[str]] = {}
    for row in record.epochs:
        for name, scores in (row.get("knn") or {}).items():
            ks = found.setdefault(name, [])
            ks += [k for k in scores or {} if k not in ks]
    return {name: sorted(ks, key=lambda k: (len(k), k)) for name, ks in found.items() if ks}


def _keys(rows: Iterable[Json], field: str) -> list[str]:
    """The keys of `row[field]` with at least one number, in order of appearance."""
    found: dict[str, None] = {}
    for row in rows:
        for key, value in (row.get(field) or {}).items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                found[key] = None
    return list(found)


def _over(rows: Iterable[Json], along: str, path: Sequence[str]) -> list[tuple[float, float]]:
    """(row[along], row[path...]) of every row that has both; a number that is not finite stays and makes a gap."""
    points = []
    for row in rows:
        value: object = row
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        x = row.get(along)
        if isinstance(x, (int, float)) and isinstance(value, (int, float)) and not isinstance(value, bool):
            points.append((float(x), float(value) if math.isfinite(value) else math.nan))
    return points
