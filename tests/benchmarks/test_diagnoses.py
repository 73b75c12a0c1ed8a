"""The table of diagnoses."""

from __future__ import annotations

from benchmarks import diagnoses

GRADIENTS = {
    "steps": [0, 5, 10, 15, 20],
    "phases": [0, 10],
    "norms": [[0, 0, 0], [5.0, 4.0, 1.0], [3.0, 2.0, 1.0], [4.0, 3.0, 1.0], [9.0, 8.0, 1.0]],
    "cosines": [0.9, 0.1, 0.2, 0.3],
    "explained": [0.5, 0.25],
}


def test_medians_are_told_by_phase() -> None:
    found = {
        "slow": {
            "gradients": GRADIENTS,
            "trajectory": {"offset": 1.234},
            "conditions": {"0.5": {"mean": 0.5, "relative": 1.2}, "0.25": {"mean": 0.25, "relative": 0.8}},
        },
        "plain": {"gradients": {**GRADIENTS, "phases": [0]}},
        "widths": {"conditions": {"0.5": {"mean": 0.5, "relative": 1.2}}},
    }
    rows = diagnoses.rows(found)
    assert all(len(row) == len(diagnoses.HEAD) for row in rows)
    assert rows[0] == ["slow", "4.00, then 3.00", "0.90, then 0.20", "75%", "1.23", "0.50, 0.25", "120%, 80%"]
    assert rows[1][1:3] == ["3.50", "0.25"]
    assert rows[2] == ["widths", "–", "–", "–", "–", "0.50", "120%"]
