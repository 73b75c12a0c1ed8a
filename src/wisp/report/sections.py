"""The sections of the page that are words and numbers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from wisp.cost.road import with_labels
from wisp.report.classes import blind
from wisp.report.curves import size_charts, tradeoff_charts
from wisp.report.formats import MISSING, count, duration, esc, number, percent, plain, points, si, size
from wisp.report.road import bill_of, road_bars
from wisp.report.runs import RunRecord
from wisp.report.scored import TOP1, Json


def headline(record: RunRecord) -> str:
    """What was trained on what, and how it went, in two sentences."""
    names = (record.fact("model"), record.method, record.data)
    model, method, data = (esc(name).replace("/", "/<wbr>") for name in names)
    whole = esc(record.fact("data"))
    return (
        f'<h1><b><bdi>{model}</bdi></b> trained with <b><bdi>{method}</bdi></b> on <b><bdi title="{whole}">'
        f'{data}</bdi></b></h1><p class="lede">{_outcome(record)}</p>'
    )


def title(record: RunRecord) -> str:
    """The window's title, unescaped."""
    return f"{record.fact('model')} · {record.method} · {record.data}"


def warning(record: RunRecord) -> str:
    """The collapse warning of the last health check, or nothing."""
    if record.warning is None:
        return ""
    return f'<p class="warning" role="alert"><b>Warning:</b> {esc(record.warning)}</p>'


def scores(record: RunRecord) -> str:
    """One card per protocol: the exported encoder's accuracy, large, beside the untrained and the other encoders."""
    if not record.encoders:
        return ""
    first, others = record.encoders[0], record.encoders[1:]
    before = record.untrained.protocols
    cards = []
    for protocol, value in record.accuracy(first).protocols.items():
        beside = {
            name: record.accuracy(name).protocols[protocol]
            for name in others
            if protocol in record.accuracy(name).protocols
        }
        start = before.get(protocol)
        change = ""
        lines = []
        if start is not None:
            change = f'<small class="{"down" if value < start else "up"}">{points(value - start)}</small>'
            lines.append(f"untrained {percent(start)}")
        if protocol == TOP1 and (without := blind(record)):
            how, start = without
            lines.append(f"<bdi>{esc(how)}</bdi> {percent(start)}")
        if protocol == TOP1 and (judge := record.judge):
            beside[f"teacher {judge.name}"] = judge.top1
        lines += [f"<bdi>{esc(name)}</bdi> {percent(other)}" for name, other in beside.items()]
        cards.append(
            f'<div class="score"><h3>{esc(protocol)}</h3><div class="big">{percent(value)}{change}</div>'
            f"{_track(value, start, list(beside.values()))}<p>{' · '.join(lines)}</p></div>"
        )
    return f'<div class="scores">{"".join(cards)}</div>' if cards else ""


def facts(record: RunRecord) -> str:
    """A line of figures: how long, how much, how large."""
    budget = (record.result or {}).get("budget") or {}
    first = record.encoder(record.encoders[0]) if record.encoders else {}
    among = number((record.cost.get("extra") or {}).get("images"))
    extra = "" if among is None else f" ({count(among)} extra)"
    values = {
        "Epochs": count(budget.get("epochs", record.done)),
        "Images": count(budget.get("images")) + extra,
        "Batch size": count(budget.get("batch_size")),
        "Parameters": si(first.get("parameters")),
        "Features": count(first.get("features")),
        "Training compute": si(record.cost.get("total_flops"), "FLOP"),
        "Training time": duration(record.cost.get("seconds")),
        "Seed": plain((record.result or record.run).get("seed")),
        "Hardware": record.machine or MISSING,
    }
    cells = [f"<div><dt>{name}</dt><dd>{esc(value)}</dd></div>" for name, value in values.items() if value != MISSING]
    return f'<dl class="facts">{"".join(cells)}</dl>' if cells else ""


def encoders(record: RunRecord) -> str:
    """Every encoder of the run and the untrained one, a row each; of several, accuracy against size."""
    protocols: dict[str, None] = {}
    for name in record.encoders:
        protocols.update(dict.fromkeys(record.accuracy(name).protocols))
    health = [key for key in ("effective_rank", "std", "alignment", "uniformity") if _health(record, key)]
    head = [
        "Encoder",
        "Parameters",
        "Features",
        "One image",
        *protocols,
        *(key.replace("_", " ").capitalize() for key in health),
    ]
    rows = []
    for name in record.encoders:
        row, scored = record.encoder(name), record.accuracy(name).protocols
        sizes = [si(row.get("parameters")), count(row.get("features")), si(row.get("forward_flops"), "FLOP")]
        values = [*sizes, *(percent(scored.get(p)) for p in protocols)]
        values += [plain((row.get("health") or {}).get(key)) for key in health]
        rows.append(f"<tr><th><bdi>{esc(name)}</bdi></th>{_numbers(values)}</tr>")
    if before := record.untrained.protocols:
        values = ["", "", "", *(percent(before.get(p)) for p in protocols), *("" for _ in health)]
        rows.append(f'<tr class="quiet"><th>untrained</th>{_numbers(values)}</tr>')
    charts = size_charts(record)
    return _table(head, rows) + (f'<div class="charts">{"".join(charts)}</div>' if charts else "")


def cost(record: RunRecord) -> str:
    """FLOPs of one step by branch with their shares, then the rest of the bill."""
    if not record.cost:
        return '<p class="empty">The cost is written when the run has finished.</p>'
    branches = {name: flops for name, value in (record.cost.get("branches") or {}).items() if (flops := number(value))}
    total = number(record.cost.get("step_flops")) or sum(branches.values())
    rows = [
        f'<tr><th><bdi>{esc(name)}</bdi></th><td class="n">{esc(si(flops, "FLOP"))}</td>'
        f'<td class="n">{percent(flops / total)}</td>'
        f'<td class="bar"><i style="width:{min(100.0, 100 * flops / total):.1f}%"></i></td></tr>'
        for name, flops in branches.items()
    ]
    rows.append(
        f'<tr class="total"><td>one step</td><td class="n">{esc(si(total, "FLOP"))}</td><td></td><td></td></tr>'
    )
    values = {
        "All steps": si(record.cost.get("total_flops"), "FLOP"),
        **_teacher(record),
        "Time": duration(record.cost.get("seconds")),
        "Images per second": count(record.cost.get("images_per_s")),
        "Data wait": percent(record.cost.get("data_wait")),
        "Trained parameters": si(record.cost.get("parameters")),
        "Activations": si(record.cost.get("activations")),
        "Peak memory": size(record.cost.get("peak_memory")),
    }
    cells = [f"<div><dt>{name}</dt><dd>{esc(value)}</dd></div>" for name, value in values.items() if value != MISSING]
    table = _table(["Branch", "Per step", "Share", ""], rows)
    chart = "".join(tradeoff_charts([record]))
    parts = f"<h3>The whole road</h3>{road_bars([record], [''])}" if len(record.road) > 1 else ""
    facts = f'<dl class="facts">{"".join(cells)}</dl>'
    return f'<div class="{"bill" if chart else ""}">{chart}<div>{table}{facts}</div></div>{parts}'


def _teacher(record: RunRecord) -> dict[str, str]:
    """Who taught, and what that one's own training cost."""
    if record.teacher is None:
        return {}
    learnt = with_labels(record.teacher.get("labels"))
    return {"Teacher": f"{record.teacher.get('origin')}{learnt}", "Its own training": bill_of(record.teacher_bill)}


def files(record: RunRecord, page_folder: Path) -> str:
    """Every file worth taking away, linked from where the page lies."""
    way = Path(os.path.relpath(record.folder.resolve(), page_folder.resolve())).as_posix()
    rows = [
        f'<tr><td class="names"><a href="{esc(quote(f"{way}/{path}", errors="surrogateescape"))}">'
        f"<bdi>{esc(path)}</bdi></a></td>"
        f'<td class="n">{esc(size(amount))}</td></tr>'
        for path, amount in record.files
    ]
    return _table(["File", "Size"], rows)


def settings(groups: dict[str, object]) -> str:
    """Nested settings as short lists: what is nested becomes a list of its own, so that nothing is left out."""
    lists = []
    for name, values in _flat(groups):
        rows = "".join(
            f"<div><dt><bdi>{esc(key)}</bdi></dt><dd><bdi>{esc(text)}</bdi></dd></div>" for key, text in values
        )
        heading = f"<h3><bdi>{esc(name)}</bdi></h3>" if name else ""
        lists.append(f"<dl>{heading}{rows}</dl>")
    return f'<div class="settings">{"".join(lists)}</div>' if lists else '<p class="empty">Nothing was recorded.</p>'


def flat_settings(value: Json) -> dict[str, str]:
    """Every leaf of nested settings under its dotted path."""
    return {f"{name}.{key}".strip("."): text for name, rows in _flat(value) for key, text in rows}


def _flat(value: Json, name: str = "") -> Iterator[tuple[str, list[tuple[str, str]]]]:
    leaves = [(key, _text(item)) for key, item in value.items() if not (isinstance(item, dict) and item)]
    if leaves:
        yield name, leaves
    for key, item in value.items():
        if isinstance(item, dict) and item:
            yield from _flat(item, f"{name}.{key}".strip("."))


def _text(value: object) -> str:
    if value is None:
        return MISSING
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return plain(value) if number(value) is not None else str(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def _outcome(record: RunRecord) -> str:
    scored = record.accuracy(record.encoders[0]).protocols if record.encoders else {}
    protocol = next(iter(scored), None)
    before = record.untrained.protocols.get(protocol or "")
    if record.result is None:
        state = f"after epoch {record.done}" if record.done else "before its first epoch ended"
        text = f"Not finished: this is the state {state}."
        if protocol:
            text += f" The monitor's {esc(protocol)} stands at <b>{percent(scored[protocol])}</b>."
        return text
    if protocol is None:
        return "There were no labels to hold out, so there is no accuracy: the health of the features has to speak."
    others = {"linear": " by a linear layer on top", TOP1: ""}
    means = others.get(protocol, f" by their {esc(protocol.removeprefix('kNN-'))} nearest neighbours")
    subject = "classifier" if protocol == TOP1 else "encoder"
    text = f"The exported {subject} names the class of <b>{percent(scored[protocol])}</b> of held-out images{means}"
    if protocol == TOP1 and (judge := record.judge):
        probed = " with a linear probe" if judge.probed else ""
        text += f"; its teacher, {esc(judge.name)}{probed}, that of {percent(judge.top1)}"
    if before is None:
        return f"{text}."
    change = points(scored[protocol] - before)
    return f"{text}; the same network untrained gets {percent(before)}. That is <b>{change}</b>."


def _health(record: RunRecord, key: str) -> bool:
    return any(number((record.encoder(name).get("health") or {}).get(key)) is not None for name in record.encoders)


def _track(value: float, before: float | None, beside: Sequence[float]) -> str:
    """0 to 100 % as a line: a ring for the untrained encoder, a disc for the trained one, strokes for its siblings."""
    width = 240

    def place(share: float) -> float:
        return 6 + (width - 12) * min(max(share, 0), 1)

    parts = [f'<path class="track" d="M6 12H{width - 6}"/>']
    if before is not None:
        loss = " loss" if value < before else ""
        parts.append(f'<path class="gain{loss}" d="M{place(before):.1f} 12H{place(value):.1f}"/>')
    parts += [f'<path class="beside" d="M{place(other):.1f} 5V19"/>' for other in beside]
    if before is not None:
        parts.append(f'<circle class="before" cx="{place(before):.1f}" cy="12" r="5"/>')
    parts.append(f'<circle class="after" cx="{place(value):.1f}" cy="12" r="6"/>')
    return f'<svg viewBox="0 0 {width} 24" aria-hidden="true">{"".join(parts)}</svg>'


def _numbers(values: Sequence[str]) -> str:
    return "".join(f'<td class="n">{esc(value)}</td>' for value in values)


def _table(head: Sequence[str], rows: Sequence[str]) -> str:
    cells = "".join(f"<th{'' if i == 0 else ' class=n'}>{esc(text)}</th>" for i, text in enumerate(head))
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
