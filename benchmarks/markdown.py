"""A table in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

MISSING = "–"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; columns of numbers are set to the right."""
    rows = [list(row) for row in rows]
    numeric = [all(not row[i] or row[i][0] in f"0123456789-~≥{MISSING}" for row in rows) for i in range(len(head))]
    rule = ["---:" if right else "---" for right in numeric]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))
