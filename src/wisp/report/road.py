"""What the whole road to a result cost: its parts in a row, and accuracy against the price in both readings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wisp.cost.road import Part, Total, off_the_shelf, total
from wisp.report.charts import COLOURS
from wisp.report.formats import MISSING, UNKNOWN, duration, esc, percent, si
from wisp.report.runs import RunRecord
from wisp.report.spans import Span, span_chart

READINGS: dict[str, Callable[[Sequence[Part]], Sequence[Part]]] = {
    "teacher off the shelf": off_the_shelf,
    "everything counted": tuple,
}
"""Off the shelf is what the paper counts (Farhat and Chen 2023, Figure 3)."""
ALL, EITHER = "everything counted", "in either reading"
NOTE = (
    "A teacher may be had off the shelf: then its own training (hatched) is nobody's bill, as in Figure 3 of Farhat "
    "and Chen 2023. Or everything counts. An encoder that is handed out pays for its pre-training in both. Nobody "
    "knows what a generator's own training took: it never counts, nor does the evaluation that every run gets. "
    "Accuracy is that of the run's classifier, or of a linear probe where it has none. ≥ marks a sum with a part that "
    "nobody knows, ~ one with an estimate."
)
HINT = "Disc: teacher off the shelf. Ring: everything counted. Dashes: nobody knows how far."


@dataclass(frozen=True)
class Standing:
    """A run's place among others.

    Attributes:
        number: of the run.
        protocol: `top-1` where it has a classifier, else `linear`.
        accuracy: a fraction.
        paid: in one of the readings.
    """

    number: int
    protocol: str
    accuracy: float
    paid: Total


def flops_of(paid: Total, unit: str = "") -> str:
    """What a sum of FLOPs reads as: `1.20 T`, `~1.20 T`, `≥ 1.20 T`, or `unknown`."""
    if paid.certainty == UNKNOWN:
        return f"≥ {si(paid.flops, unit)}" if paid.flops else UNKNOWN
    return f"{'~' if paid.certainty == 'estimated' else ''}{si(paid.flops, unit)}"


def bill_of(paid: Total) -> str:
    """What a teacher's bill reads as, with what is known of it: `1.20 TFLOP (known)`, `≥ 1.20 TFLOP`, or `unknown`."""
    return flops_of(paid, "FLOP") if paid.certainty == UNKNOWN else f"{si(paid.flops, 'FLOP')} ({paid.certainty})"


def time_of(paid: Total) -> str:
    """What a sum of times reads as: `1 min 12 s`, `≥ 1 min 12 s`, or `unknown`."""
    if not paid.machines:
        return UNKNOWN
    return f"{'' if paid.timed else '≥ '}{duration(paid.seconds)}"


def machines_of(paid: Total) -> str:
    """Whose time that is: one machine's name, or how many took part."""
    if not paid.machines:
        return MISSING
    if len(paid.machines) == 1:
        return paid.machines[0] or UNKNOWN
    return f"{len(paid.machines)} machines{', one of them unknown' if None in paid.machines else ''}"


def totals(parts: Sequence[Part]) -> dict[str, Total]:
    """Both readings of a road by their names; one where they are the same, none where there is nothing to add."""
    if len(parts) < 2:
        return {}
    found = {name: total(reading(parts)) for name, reading in READINGS.items()}
    return found if len(off_the_shelf(parts)) < len(parts) else {EITHER: found[ALL]}


def road_cells(records: Sequence[RunRecord]) -> tuple[list[str], list[list[str]]]:
    """The road as rows of text for a terminal, with a head; no rows where every run is one training and no more."""
    if all(len(record.road) < 2 for record in records):
        return [], []
    rows = []
    for record in records:
        paid = [(part.what, total([part])) for part in record.road]
        paid += [(f"= {name}", whole) for name, whole in totals(record.road).items()]
        for place, (what, each) in enumerate(paid):
            rows.append(["" if place else record.name, what, flops_of(each), time_of(each), machines_of(each)])
    return ["run", "part of the road", "FLOP", "time", "machine"], rows


def road_caveats(records: Sequence[RunRecord]) -> list[str]:
    """What the sums hide, one sentence each."""
    found = []
    several = [record.name for record in records if len(total(record.road).machines) > 1]
    if several:
        found.append(f"Times of several machines are added up, they are those of none: {', '.join(several)}.")
    blind = [r.name for r in records if any(p.flops is None and p.kind == "generation" for p in r.road)]
    if blind:
        found.append(f"Nobody knows the operations of the generated images, they are not counted: {', '.join(blind)}.")
    return found


def road_section(records: Sequence[RunRecord], keys: Sequence[str]) -> str:
    """Who is worth the price in either reading, accuracy against operations and time, and every part of every road."""
    flops = span_chart("Accuracy against operations", _spans(records, keys, False), x_label="FLOP", hint=HINT)
    seconds = span_chart("Accuracy against time", _spans(records, keys, True), x_label="time", hint=HINT, as_time=True)
    return (
        f'<p class="note">{NOTE}</p><div class="scores">{"".join(_worth(records, keys, name) for name in READINGS)}'
        f'</div><div class="charts pair">{flops}{seconds}</div>{road_bars(records, keys)}'
    )


def standings(records: Sequence[RunRecord], reading: str) -> list[Standing]:
    """Every run with an accuracy and a cost, of its first encoder."""
    found = []
    for number, record in enumerate(records):
        scored = record.accuracy(record.encoders[0]).protocols if record.encoders else {}
        protocol = next((name for name in ("top-1", "linear") if name in scored), None)
        parts = READINGS[reading](record.road)
        if protocol is not None and parts:
            found.append(Standing(number, protocol, scored[protocol], total(parts)))
    return found


def front(standing: Sequence[Standing]) -> list[Standing]:
    """Those whose accuracy no cheaper one has, cheapest first; a cost of which a part is unknown is no price."""
    found: list[Standing] = []
    known = [each for each in standing if each.paid.certainty != UNKNOWN]
    for each in sorted(known, key=lambda each: (each.paid.flops, -each.accuracy)):
        if not found or each.accuracy > found[-1].accuracy:
            found.append(each)
    return found


def road_bars(records: Sequence[RunRecord], keys: Sequence[str]) -> str:
    """A table with a row per part, whose bars begin where the part before ended; one scale for all runs."""
    wholes = [total(record.road) for record in records]
    most = (max((w.flops for w in wholes), default=0) or 1, max((w.seconds for w in wholes), default=0.0) or 1.0)
    machines = {machine for whole in wholes for machine in whole.machines}
    shown = ("Run",) * (len(records) > 1) + ("Machine",) * (len(machines) > 1)
    rows = []
    for number, (record, key) in enumerate(zip(records, keys, strict=True)):
        colour, flops, seconds, bought = f"c{number % COLOURS}", 0, 0.0, off_the_shelf(record.road)
        for place, part in enumerate(record.road):
            head = f'<span class="key {colour}">{key}</span><bdi>{esc(record.name)}</bdi>' if place == 0 else ""
            css = f"{colour}{'' if part in bought else ' shelf'}"
            bars = _bar(flops, part.flops, most[0], css), _bar(seconds, part.seconds, most[1], css)
            rows.append(_row(head, part.what, total([part]), bars, shown, "" if place else "first"))
            flops, seconds = flops + (part.flops or 0), seconds + (part.seconds or 0.0)
        rows += [_row("", name, paid, ("", ""), shown, "sum") for name, paid in totals(record.road).items()]
    if not rows:
        return '<p class="empty">No cost was recorded yet; it is written when a run has finished.</p>'
    one = next(iter(machines)) if len(machines) == 1 else None
    return (
        f'<div class="scroll"><table class="road"><thead><tr>{"<th>Run</th>" if "Run" in shown else ""}'
        "<th>Part of the road</th><th class=n>FLOP</th><th></th><th class=n>Time</th><th></th>"
        f"{'<th>Machine</th>' if 'Machine' in shown else ''}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        f"{f'<p class=note>All times are of one machine: {esc(one)}.</p>' if one else ''}"
    )


def _row(head: str, what: str, paid: Total, bars: tuple[str, str], shown: tuple[str, ...], css: str) -> str:
    """Cells of one part or sum; `shown` names the columns that not every table has."""
    where = f'<td class="where"><bdi>{esc(machines_of(paid))}</bdi></td>' if "Machine" in shown else ""
    return (
        f'<tr class="{css}">{f"<th>{head}</th>" if "Run" in shown else ""}<td><bdi>{esc(what)}</bdi></td>'
        f'<td class="n">{esc(flops_of(paid))}</td><td class="bar">{bars[0]}</td>'
        f'<td class="n">{esc(time_of(paid))}</td><td class="bar">{bars[1]}</td>{where}</tr>'
    )


def _bar(start: float, amount: float | None, most: float, css: str) -> str:
    """From where the parts before ended; dashed to the end of its place where nobody knows how long it is."""
    left = min(100 * start / most, 99.0)
    width, css = (100.0, "unknown") if amount is None else (100 * amount / most, css)
    return f'<i class="{css}" style="margin-left:{left:.2f}%;width:{min(width, 100 - left):.2f}%"></i>'


def _worth(records: Sequence[RunRecord], keys: Sequence[str], reading: str) -> str:
    """A card: the runs whose accuracy no cheaper one has."""
    standing = standings(records, reading)
    best = front(standing)
    items = "".join(
        f'<li><span class="key c{each.number % COLOURS}">{keys[each.number]}</span>'
        f"<bdi>{esc(records[each.number].name)}</bdi><b>{percent(each.accuracy)}</b>"
        f"<span>{esc(flops_of(each.paid, 'FLOP'))}</span></li>"
        for each in best
    )
    beaten = [keys[each.number] for each in standing if each not in best and each.paid.certainty != UNKNOWN]
    blind = [keys[each.number] for each in standing if each.paid.certainty == UNKNOWN]
    said = [f"{', '.join(beaten)}: a cheaper one is as good."] if beaten else []
    said += [f"Nobody knows the price of {', '.join(blind)}."] if blind else []
    body = f'<ol class="front">{items}</ol>' if items else '<p class="empty">No accuracy with a known price.</p>'
    return f'<div class="score"><h3>Worth the price, {esc(reading)}</h3>{body}<p>{" ".join(said)}</p></div>'


def _spans(records: Sequence[RunRecord], keys: Sequence[str], timed: bool) -> list[Span]:
    lower, higher = ({each.number: each for each in standings(records, name)} for name in READINGS)
    found = []
    for number, least in lower.items():
        sums = (least.paid, higher[number].paid)
        near, far = (paid.seconds if timed else paid.flops for paid in sums)
        short, long = (not paid.timed if timed else paid.certainty == UNKNOWN for paid in sums)
        if near <= 0:
            continue
        read = [
            f"{name}: {time_of(paid) if timed else flops_of(paid, 'FLOP')}"
            for name, paid in zip(READINGS, sums, strict=True)
        ]
        title = "\n".join([f"{records[number].name}: {least.protocol} {percent(least.accuracy)}", *read])
        label = f"{keys[number]} + ?" if short else keys[number]
        found.append(Span(label=label, y=least.accuracy, near=near, far=far, further=long, title=title, colour=number))
    return found
