"""What `wisp diagnose` found of several runs, as one Markdown table; the files are `results/diagnoses/ROW.json`."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.markdown import MISSING

Json = dict[str, Any]
HEAD = [
    "run",
    "rest / smallest",
    "cosine of gradients",
    "variance in the plane",
    "offset",
    "mean abs(L - R)",
    "of mean abs(R)",
]


def rows(diagnoses: dict[str, Json]) -> list[list[str]]:
    """A row a run: medians over the kept steps, of a run with a slow start before and after it.

    Args:
        diagnoses: name of the run -> content of its `diagnosis.json`.
    """
    return [[name, *_gradients(found), *_trajectory(found), *_conditions(found)] for name, found in diagnoses.items()]


def _gradients(found: Json) -> list[str]:
    told = found.get("gradients")
    if told is None:
        return [MISSING] * 3
    ratios = [rest / part if part else None for _, rest, part in told["norms"]]
    return [
        _by_phase(told, ratios, "{:.2f}"),
        _by_phase(told, [None, *told["cosines"]], "{:.2f}"),
        f"{sum(told['explained']):.0%}",
    ]


def _by_phase(told: Json, values: Sequence[float | None], form: str) -> str:
    """Medians over the steps of each phase, the first one first; a step without a value counts nowhere."""
    begins = [*told["phases"], told["steps"][-1] + 1]
    found = []
    for first, end in itertools.pairwise(begins):
        pairs = zip(told["steps"], values, strict=True)
        kept = [value for step, value in pairs if first <= step < end and value is not None]
        found.append(form.format(statistics.median(kept)) if kept else MISSING)
    return ", then ".join(found)


def _trajectory(found: Json) -> list[str]:
    return [f"{found['trajectory']['offset']:.2f}" if "trajectory" in found else MISSING]


def _conditions(found: Json) -> list[str]:
    told = list(found.get("conditions", {}).values())
    if not told:
        return [MISSING] * 2
    return [", ".join(f"{row['mean']:.2f}" for row in told), ", ".join(f"{row['relative']:.0%}" for row in told)]
