"""The block before a training and the block after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wisp.cost.count import TrainingCost
from wisp.cost.road import before, total, with_labels
from wisp.data.plans import PLANS
from wisp.encoders.teacher import Teacher
from wisp.evaluate.answers import doubt


def summary(
    *,
    method: str,
    model: str,
    data: str,
    extra: str | None,
    resolved: dict[str, Any],
    teacher: Teacher | None,
    learns: bool,
    chosen: dict[str, float],
    warnings: Sequence[str],
    cost: TrainingCost,
    precision: str,
    device: str,
    world: int,
    step: int,
    evaluation: str,
) -> str:
    """What is about to happen, before it costs anything."""
    r = resolved
    passes = "  ".join(f"{name} {flops(n)}" for name, n in cost.step.branches.items())
    processes = f" x {world}" if world > 1 else ""
    lines = [
        ("method", f"{method}  (defaults: {r['source']})"),
        *(("", f"{name} {value:,}") for name, value in chosen.items()),
        *([("teacher", _teacher(teacher, learns))] if teacher is not None else []),
        *([("", _assumed(teacher))] if teacher is not None and teacher.own.assumed else []),
        ("data", f"{data}: {r['images'] - r['extra']:,} images, views {r['plan']} at {_sides(r)} px"),
        *([("extra", extra)] if extra is not None else []),
        ("evaluation", evaluation),
        ("model", f"{model}  {cost.step.parameters / 1e6:.2f} M trained parameters, heads and host included"),
        ("budget", f"{r['epochs']} epochs x {r['steps_per_epoch']} steps of {r['batch_size']} images"),
        (
            "optimizer",
            f"{r['optimizer']}  lr {r['lr']:g}  weight decay {r['weight_decay']:g}  warm-up {r['warmup_steps']} steps",
        ),
        ("device", f"{device}{processes}, {precision}"),
        ("step", f"{flops(cost.step.flops)}: {passes}"),
        ("training", f"{flops(cost.flops)}, {cost.step.activations / 1e6:.0f} M activations a step"),
    ]
    lines += [("warning", text) for text in warnings]
    if step:
        lines.append(("resuming", f"after step {step} of {r['steps']}"))
    return "\n".join(f"{name:>10}  {text}" for name, text in lines)


def _teacher(teacher: Teacher, learns: bool) -> str:
    """Who teaches, what it shows or whether it learns along, and what its own training cost."""
    if teacher.bill.flops == 0:
        return f"{teacher.origin} at {teacher.own.image_size} px; {teacher.bill.note}"
    shows = "features" if teacher.head is None else "embeddings"
    bill = "an unknown number of operations" if teacher.bill.flops is None else flops(teacher.bill.flops)
    said = f" ({teacher.bill.certainty})" if teacher.bill.flops is not None else ""
    judge = "a linear probe of its features" if teacher.probed else "its own classifier"
    names = f"; {judge} names the classes" if teacher.classifier is not None else ""
    size = f"at {teacher.own.image_size} px"
    given = f"first weights of one that learns along, {size}" if learns else f"{teacher.width} {shows} {size}{names}"
    learnt = with_labels(teacher.bill.labels)
    return f"{teacher.origin}: {given}; its training took {bill}{said}{learnt}"


def _assumed(teacher: Teacher) -> str:
    """How its images are prepared, where that is a guess."""
    mean, std = (" ".join(f"{value:g}" for value in values) for values in (teacher.own.mean, teacher.own.std))
    remedy = "--method.teacher-model NAME.TAG takes those of timm's weights TAG, --method.teacher-size another side"
    return f"its images' mean {mean} and std {std} are assumed, for the file says nothing; {remedy}"


def _sides(resolved: dict[str, Any]) -> str:
    """The sides of the views: one number, or how many views there are of each."""
    counts = Counter(PLANS[resolved["plan"]].pixels(resolved["image_size"]))
    if len(counts) == 1:
        return str(*counts)
    return " + ".join(f"{count} x {side}" for side, count in counts.items())


def results(receipt: dict[str, Any]) -> list[str]:
    """A line per encoder for `train.log`: accuracy, or that there was none, and the collapse warning."""
    lines = []
    for name, entry in receipt["encoders"].items():
        scores = [f"top-1 {entry['classifier']['top1']:.2f}"] if "classifier" in entry else []
        scores += [f"kNN-{k} {value:.2f}" for k, value in (entry["knn"] or {}).items()]
        scores += [] if entry["linear"] is None else [f"linear {entry['linear']:.2f}"]
        lines.append(f"{name}: {', '.join(scores) or 'no labels, no accuracy'}")
        lines += _warnings(name, entry)
    if teacher := receipt.get("teacher"):
        lines.append(f"teacher {teacher['origin']}: top-1 {teacher['top1']:.2f}")
    return lines


def closing(receipt: dict[str, Any], folder: Path, load: list[str]) -> str:
    """Accuracy, cost, files, and the lines that load the result."""
    lines = ["", *_accuracies(receipt)]
    cost = receipt["cost"]
    earlier = total(before(cost))
    told = f" after {'at least ' if earlier.certainty == 'unknown' else ''}{flops(earlier.flops)} of its teacher"
    if not earlier.flops:
        told = " after a teacher of unknown cost" if earlier.certainty == "unknown" else ""
    made = cost.get("extra", {}).get("flops")
    told += f" and {flops(made)} of making the extra images" if made else ""
    lines.append(
        f"cost: {flops(cost['total_flops'])}{told}, {cost['seconds'] / 60:.1f} min of training, "
        f"{cost['images_per_s']:,.0f} images/s, data wait {cost['data_wait']:.0%}, "
        f"peak memory {cost['peak_memory'] / 2**30:.1f} GiB"
    )
    for name, entry in receipt["encoders"].items():
        lines += _warnings(name, entry)
        if classifier := entry.get("classifier"):
            place = folder / "exported" / name / "classifier"
            lines.append(f"{name}, to name classes: {place}  ({', '.join(classifier['files'].values())})")
        lines.append(f"{name}: {folder / 'exported' / name}  ({', '.join(entry['files'].values())})")
    if receipt["replaced"]:
        count = receipt["replaced"]
        told = f"{count} images cannot be read: replaced in training, left out of evaluations; train.log names them"
        lines.append(told.replace("images", "image", 1).replace("them", "it") if count == 1 else told)
    return "\n".join([*lines, f"report: {folder / 'report.html'}", "", *load])


def quality(row: dict[str, Any]) -> str:
    """An epoch's evaluation in a few words, with a space before it; empty where there was none."""
    parts = []
    if row.get("top1"):
        name, accuracy = next(iter(row["top1"].items()))
        parts.append(f"  top-1 {accuracy:.1f} ({name})")
    if row.get("knn"):
        name, accuracies = next(iter(row["knn"].items()))
        k, accuracy = next(iter(accuracies.items()))
        parts.append(f"  kNN-{k} {accuracy:.1f} ({name})")
    if row.get("health"):
        parts.append(f"  rank {row['health']['effective_rank']:.0f}")
    return "".join(parts)


def warning(row: dict[str, Any]) -> str | None:
    """What the health check of an epoch's row has to say, if anything."""
    found = (row.get("health") or {}).get("warning")
    return None if found is None else str(found)


def _accuracies(receipt: dict[str, Any]) -> list[str]:
    if receipt["untrained"] is None:
        return ["health only, no accuracy: class folders, or --val with labelled images, give kNN and linear accuracy"]
    encoders, untrained = receipt["encoders"], receipt["untrained"]
    ks = list(untrained["knn"])
    columns = [*(f"kNN-{k}" for k in ks), "linear"]
    rows = [(f"{name} {'' if 'classifier' in e else 'pre-'}trained", e) for name, e in encoders.items()]
    rows.append((f"{next(iter(encoders))} untrained", untrained))
    table: dict[str, list[float | None]] = {name: [*(e["knn"][k] for k in ks), e["linear"]] for name, e in rows}
    if any("classifier" in e for e in encoders.values()):  # what such a training was for comes first
        columns = ["top-1", *columns]
        table = {name: [e["classifier"]["top1"] if "classifier" in e else None, *table[name]] for name, e in rows}
        table |= {"teacher": [receipt["teacher"]["top1"]]} if "teacher" in receipt else {}
    head = f"{'':>16}" + "".join(f"{column:>9}" for column in columns)
    return [head, *(f"{name:>16}{''.join(map(_cell, values))}" for name, values in table.items())]


def _cell(value: float | None) -> str:
    return f"{'' if value is None else f'{value:.2f}':>9}"


def _warnings(name: str, entry: dict[str, Any]) -> list[str]:
    """What is wrong with an encoder, or with its classifier, a line each."""
    found = [entry["health"]["warning"], doubt(entry["classifier"]["answers"]) if "classifier" in entry else None]
    return [f"warning ({name}): {text}" for text in found if text]


def flops(number: float) -> str:
    """`12.3 GFLOP`: a multiply-add is two."""
    for size, unit in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G")):
        if number >= size:
            return f"{number / size:.3g} {unit}FLOP"
    return f"{number / 1e6:.3g} MFLOP"
