"""What the benchmarks measured, as Markdown tables; the files are `results/benchmarks/NAME.jsonl`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.markdown import MISSING, markdown

_ABOUT = ("bench", "repeats", "threads", "cpu", "cores", "amx", "load", "commit", "versions", "warmup")
"""Keys of a benchmark's line that say where it was measured: they go below the table."""

Json = dict[str, Any]


def benchmark(lines: list[Json]) -> str:
    """What a benchmark measured, one line a row; columns in the order in which they first appear."""
    flat = [_flat({key: value for key, value in line.items() if key not in _ABOUT}) for line in lines]
    head = list(dict.fromkeys(key for row in flat for key in row))
    rows = [[_cell(row.get(key)) for key in head] for row in flat]
    told = [key for key in _ABOUT if key not in ("bench", "load", "amx")]
    about = {key: dict.fromkeys(_note(line[key]) for line in lines if key in line) for key in told}
    notes = "; ".join(f"{key} {' / '.join(values)}" for key, values in about.items() if values)
    return f"{markdown([key.replace('_', ' ') for key in head], rows)}\n\nMedians of interleaved repeats. {notes}."


def ratios(lines: list[Json]) -> str:
    """Every ratio that the benchmarks exist for, one a line, beside what it must reach; the last word counts."""
    found: dict[str, list[str]] = {}
    for line in lines:
        for key, (what, limit) in _RATIOS.items():
            if key in line:
                told = what.format_map({"method": "Barlow Twins"} | line)  # of lines that name none
                found[told] = [told, f"{line[key]:.2f}", limit(line), str(line["cpu"]), str(line["threads"])]
    return markdown(["ratio of times", "measured", "limit", "processor", "threads"], list(found.values()))


def _at_least(limits: dict[int, float]) -> Callable[[Json], str]:
    return lambda line: f"at least {limits[line['px']]:g}" if line["px"] in limits else MISSING


def _at_most(line: Json) -> str:
    return MISSING if line.get("limit") is None else f"at most {line['limit']:.2f}"


_RATIOS: dict[str, tuple[str, Callable[[Json], str]]] = {
    "vs_torchvision": ("two views, {px} px, plan {plan}: torchvision / wisp", _at_least({32: 15, 224: 4})),
    "vs_kornia": ("two views, {px} px, plan {plan}: kornia / wisp", _at_least({32: 3, 224: 2})),
    "sliced_over_masked": ("SACL-XD step, K = {k}, {precision}: sliced / masked", _at_most),
    "seed_over_parts": ("SEED step, {teacher} teaches {model}, {precision}: whole / its two passes", _at_most),
    "blocks_over_whole": ("SEED's loss, {embeddings} embeddings, {precision}: in blocks / in memory", _at_most),
    "au_over_kd": ("A/U step, {teacher} teaches {model}, batch {batch}, {precision}: A/U / KD", _at_most),
    "cached_over_supervised": (
        "epoch of {method} after the first, the teacher's features on disk, {model}, batch {batch}, {precision}: "
        "{method} / supervised",
        _at_most,
    ),
    "xd_over_barlow": ("step of batch {batch}, {precision}: XD / Barlow Twins", _at_most),
    "widths_over_masked": ("SlimCLR step, {model}, widths {widths}, batch {batch}: sliced / masked", _at_most),
    "kept_over_returned": ("{work} of {model}, batch {batch}, {precision}: freed memory kept / returned", _at_most),
    "step_over_lightly": ("step of {method}, batch {batch}, {precision}: wisp / lightly", _at_most),
    "wisp_over_lightly": ("epoch of {method}, {precision}: wisp / lightly in fp32", _at_most),
}
"""Key of a benchmark's line -> what it says, and its limit."""


def _flat(row: Json) -> Json:
    flat: Json = {}
    for key, value in row.items():
        flat |= (
            {f"{key}: {inner}": number for inner, number in value.items()} if isinstance(value, dict) else {key: value}
        )
    return flat


def _cell(value: object) -> str:
    if value is None:
        return MISSING
    if isinstance(value, float) and not value.is_integer():
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}"
    return f"{value:,.0f}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def _note(value: object) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
