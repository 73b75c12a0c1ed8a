"""The section on a classifier: what it knows of every class, which classes it confuses, and what its teacher knows."""

from __future__ import annotations

from collections.abc import Sequence

from wisp.evaluate.answers import FEW, doubt, without_looking
from wisp.report.formats import MISSING, count, esc, number, percent
from wisp.report.runs import RunRecord
from wisp.report.scored import Json

_READABLE = 20
"""Classes that a table shows; of more only the worst."""


def doubtful(record: RunRecord) -> str:
    """A warning where the classifier is no better than without looking, or nothing."""
    told = _answers(record)
    text = None if told is None else doubt(told)
    return "" if text is None else f'<p class="warning" role="alert"><b>Warning:</b> {esc(text)}</p>'


def class_section(record: RunRecord) -> str:
    """Every class with its accuracy, the lowest first, and the most confused pairs; nothing without a classifier."""
    told = _answers(record)
    if told is None:
        return ""
    note = f"{count(told['right'])} of {count(told['questions'])} held-out images got the right name."
    taught: Json = {}
    if judge := record.judge:
        taught = judge.answers
        note += f" Its teacher, {esc(judge.name)}, knows {count(taught.get('right'))} of the same."
    return (
        f'<p class="note">{note}{_unasked(told)}</p><div class="beside-each-other">'
        f"<div>{_by_class(told, taught)}</div><div>{_confused(told)}</div></div>"
    )


def blind(record: RunRecord) -> tuple[str, float] | None:
    """What can be had without looking at an image, in words and as a fraction; None without a classifier."""
    told = _answers(record)
    if told is None:
        return None
    how, right = without_looking(told)
    return how, right / told["questions"]


def _answers(record: RunRecord) -> Json | None:
    """Those of the first encoder's classifier; None where the receipt has none, or is older than they are."""
    told = record.answers(record.encoders[0]) if record.encoders else {}
    largest = (told.get("largest") or {}).get("questions")
    sums = (*(told.get(key) for key in ("questions", "right", "classes")), largest)
    return told if all(number(value) is not None for value in sums) and told["questions"] else None


def _unasked(told: Json) -> str:
    missing = (number(told.get("classes")) or 0) - (number(told.get("asked")) or 0)
    if missing < 1:
        return ""
    return f" For {count(missing)} of the {count(told['classes'])} classes there was no image to ask about."


def _by_class(told: Json, taught: Json) -> str:
    """Worst first, so that the bars grow downwards and what needs more images stands on top."""
    rows, among = told.get("by_class") or [], number(told.get("asked")) or 0
    shown = rows if among <= _READABLE else rows[:FEW]
    beside = {row["class"]: row for row in taught.get("by_class") or []}
    judged = any(row["class"] in beside for row in shown)
    head = ["Class", "", "", "Right", *(["Teacher"] if judged else [])]
    title = f"The {len(shown)} worst of {count(among)} classes" if len(shown) < among else "Every class, worst first"
    return f"<h3>{title}</h3>{_table(head, [_row(row, beside.get(row['class']), judged) for row in shown])}"


def _row(row: Json, teacher: Json | None, judged: bool) -> str:
    share = row["right"] / row["questions"]
    last = f'<td class="n">{MISSING if teacher is None else percent(teacher["right"] / teacher["questions"], 0)}</td>'
    return (
        f'<tr><th class="names"><bdi>{esc(row["class"])}</bdi></th>'
        f'<td class="bar"><i style="width:{100 * share:.1f}%"></i></td><td class="n">{percent(share, 0)}</td>'
        f'<td class="n">{count(row["right"])} of {count(row["questions"])}</td>{last if judged else ""}</tr>'
    )


def _confused(told: Json) -> str:
    rows = [
        f'<tr><td class="names"><b><bdi>{esc(row["class"])}</bdi></b> taken for '
        f"<b><bdi>{esc(row['taken_for'])}</bdi></b></td>"
        f'<td class="n">{count(row["images"])} of {count(row["questions"])}</td></tr>'
        for row in told.get("confused") or []
    ]
    if not rows:
        return '<h3>Most confused</h3><p class="empty">No image was taken for one of another class.</p>'
    return f"<h3>Most confused</h3>{_table(['', 'Images'], rows)}"


def _table(head: Sequence[str], rows: Sequence[str]) -> str:
    cells = "".join(f"<th{'' if place == 0 else ' class=n'}>{esc(text)}</th>" for place, text in enumerate(head))
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
