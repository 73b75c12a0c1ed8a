"""Several runs side by side: a text table for the terminal and a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wisp.cost.road import total
from wisp.report.charts import COLOURS
from wisp.report.curves import overlaid_knn, tradeoff_charts
from wisp.report.formats import MISSING, UNKNOWN, count, duration, esc, number, percent, si
from wisp.report.page import section, write_page
from wisp.report.road import flops_of, road_caveats, road_cells, road_section
from wisp.report.runs import RunRecord, read_runs
from wisp.report.sections import flat_settings


def comparison_table(folders: Sequence[Path]) -> str:
    """A text table with a row per encoder of every run, aligned for a terminal.

    Raises:
        WispError: no folder, or one that is not a run.
    """
    records = read_runs(folders)
    lines = _aligned(*_cells(records), words=5)  # run, method, model, data, encoder; numbers follow
    head, rows = road_cells(records)
    if rows:
        lines += ["", *_aligned(head, rows, words=2), ""]
    return "\n".join([*lines, *caveats(records)]).rstrip()


def _aligned(head: list[str], rows: list[list[str]], words: int) -> list[str]:
    """Lines of a table whose first columns are words; the others are set to the right."""
    table = [head, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    lines = [
        "  ".join(
            text.ljust(w) if i < words else text.rjust(w) for i, (text, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def compare(run_folders: Sequence[Path], out: Path) -> Path:
    """Writes one HTML file that sets several runs side by side.

    Raises:
        WispError: no folder, or one that is not a run.
    """
    records = read_runs(run_folders)
    keys = run_keys(len(records))
    best = _best(records)
    runs = f"{len(records)} run{'s' * (len(records) != 1)}"
    encoders = sum(len(record.encoders) for record in records)
    lede = f"{runs}, {encoders} encoder{'s' * (encoders != 1)}. {best}"
    warnings = "".join(f'<p class="warning">{esc(text)}</p>' for text in caveats(records))
    charts = [*tradeoff_charts(records, keys), overlaid_knn(records, keys)]
    note = (
        '<p class="note">Lines: the monitor on its way. Dots: the final evaluation, filled for the exported encoder, '
        "hollow for the others of its run. A teacher's own training is part of the cost.</p>"
    )
    body = [
        f'<h1><b>{runs}</b> side by side</h1><p class="lede">{lede}</p>{warnings}',
        section("table", "Results", _table(records, keys)),
        section("road", "The whole road", road_section(records, keys)),
        section("charts", "Accuracy against cost", f'{note}<div class="charts">{"".join(charts)}</div>'),
        section("differences", "What differs", _differences(records, keys)),
    ]
    return write_page(out, f"wisp: {runs}", "comparison", "".join(body))


def caveats(records: Sequence[RunRecord]) -> list[str]:
    """Why these numbers may not be comparable, one sentence each."""
    found = []
    if len({record.fact("data") for record in records}) > 1:
        found.append("Different data: compare accuracies only within one data set.")
    protocols = [record.result.get("protocol") or {} for record in records if record.result]
    names = dict.fromkeys(name for protocol in protocols for name in protocol)
    if differing := [name for name in names if len({repr(protocol.get(name)) for protocol in protocols}) > 1]:
        found.append(
            f"Different evaluation protocols ({', '.join(differing)}): the accuracies were not measured alike."
        )
    blind = [record for record in records if record.teacher_bill.certainty == UNKNOWN]
    if unpaid := [record.name for record in blind if not record.teacher_bill.flops]:
        found.append(f"Nobody knows what the teacher cost, it is not counted: {', '.join(unpaid)}.")
    if partly := [record.name for record in blind if record.teacher_bill.flops]:
        found.append(f"Nobody knows all that the teacher cost, it is counted only in part: {', '.join(partly)}.")
    if not all(record.names_classes for record in records if record.result is not None):
        if labelled := [record.name for record in records if record.saw_labels]:
            found.append(f"Not label-free, by their own training or their teacher's: {', '.join(labelled)}.")
        if maybe := [record.name for record in records if record.saw_labels is None]:
            found.append(f"Nobody knows whether their teacher saw labels: {', '.join(maybe)}.")
    found += road_caveats(records)
    waiting = [record.name for record in records if record.result is None]
    if waiting:
        found.append(f"Not finished, the monitor's last word is shown: {', '.join(waiting)}.")
    return found


def run_keys(count: int) -> list[str]:
    """A short key per run: A, B, ... Z, AA, AB, ..."""
    letters = [chr(65 + i) for i in range(26)]
    return [(letters[i // 26 - 1] if i >= 26 else "") + letters[i % 26] for i in range(count)]


def _cells(records: Sequence[RunRecord]) -> tuple[list[str], list[list[str]]]:
    names = {p for record in records for name in record.encoders for p in record.accuracy(name).protocols}
    last = ("linear", "top-1")
    protocols = sorted(names, key=lambda p: (1 + last.index(p), 0) if p in last else (0, int(p.removeprefix("kNN-"))))
    taught = any(len(record.road) > 1 for record in records)
    bill = ["FLOP", "teacher", "total"] if taught else ["FLOP"]
    head = ["run", "method", "model", "data", "encoder", *protocols, "untrained", *bill, "time", "epochs"]
    rows = []
    for record in records:
        before = next(iter(record.untrained.protocols.values()), None)
        epochs = ((record.result or {}).get("budget") or {}).get("epochs", record.done)
        for name in record.encoders or [MISSING]:
            scored = record.accuracy(name).protocols
            rows.append(
                [
                    *(record.name, record.method, record.fact("model"), record.data, name),
                    *(percent(scored.get(protocol)) for protocol in protocols),
                    *(
                        percent(before),
                        *_bill(record, taught),
                        duration(record.own_seconds),
                        count(epochs),
                    ),
                ]
            )
    return head, rows


def _bill(record: RunRecord, taught: bool) -> list[str]:
    """Operations of the run itself and, where any run of a comparison had more to pay, its teacher's and the whole."""
    own = si(number(record.cost.get("total_flops")))
    if not taught:
        return [own]
    if not record.road:
        return [own, MISSING, MISSING]
    teacher = MISSING if record.teacher is None else flops_of(record.teacher_bill)
    return [own, teacher, flops_of(total(record.road))]


def _table(records: Sequence[RunRecord], keys: Sequence[str]) -> str:
    head, rows = _cells(records)
    owners = [number for number, record in enumerate(records) for _ in record.encoders or [MISSING]]
    body = []
    previous = -1
    for owner, row in zip(owners, rows, strict=True):
        again = owner == previous
        key = f'<span class="key c{owner % COLOURS}">{"" if again else keys[owner]}</span>'
        words = ["" if again else text for text in row[:4]] + [row[4]]
        cells = "".join(f"<td><bdi>{esc(text)}</bdi></td>" for text in words[1:])
        numbers = "".join(f'<td class="n">{esc(text)}</td>' for text in row[5:])
        css = ' class="quiet"' if again else ""
        body.append(f"<tr{css}><th>{key}<bdi>{esc(words[0])}</bdi></th>{cells}{numbers}</tr>")
        previous = owner
    columns = "".join(f"<th{'' if i < 5 else ' class=n'}>{esc(text)}</th>" for i, text in enumerate(head))
    return f'<div class="scroll"><table><thead><tr>{columns}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def _differences(records: Sequence[RunRecord], keys: Sequence[str]) -> str:
    """Only the settings in which the runs differ."""
    every = [flat_settings(record.run) for record in records]
    names = list(dict.fromkeys(name for settings in every for name in settings))
    differing = [name for name in names if len({settings.get(name) for settings in every}) > 1]
    if not differing:
        return '<p class="empty">No setting differs.</p>'
    head = "".join(f'<th><span class="key c{i % COLOURS}">{key}</span></th>' for i, key in enumerate(keys))
    rows = "".join(
        f"<tr><th><bdi>{esc(name)}</bdi></th>"
        + "".join(f"<td><bdi>{esc(settings.get(name, MISSING))}</bdi></td>" for settings in every)
        + "</tr>"
        for name in differing
    )
    return (
        f'<div class="scroll"><table><thead><tr><th>Setting</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _best(records: Sequence[RunRecord]) -> str:
    """Which exported encoder is ahead: by its classifier where every run has one, else by the smallest k they share."""
    scored = [(record, record.accuracy(record.encoders[0]).protocols if record.encoders else {}) for record in records]
    shared = [p for p in scored[0][1] if all(p in protocols for _, protocols in scored)]
    if not shared or len(records) < 2 or len({record.fact("data") for record in records}) > 1:
        return ""
    protocol = "top-1" if "top-1" in shared else shared[0]
    ordered = sorted(scored, key=lambda pair: -pair[1][protocol])
    (first, ahead), (_, behind) = ordered[:2]
    margin = 100 * (ahead[protocol] - behind[protocol])
    if f"{margin:.1f}" == "0.0":
        return f"By {esc(protocol)}, the best are level at <b>{percent(ahead[protocol])}</b>."
    return (
        f"By {esc(protocol)}, <b><bdi>{esc(first.name)}</bdi></b> is ahead with <b>{percent(ahead[protocol])}</b>, "
        f"{margin:.1f} points before the next."
    )
