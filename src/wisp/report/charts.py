"""Charts as inline SVG: lines and scatters. Colours are CSS classes, so that one drawing serves light and dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wisp.report.formats import MISSING, esc, percent, plain, shorten
from wisp.report.scales import Scale, spread

WIDTH, HEIGHT = 360, 216
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 10, 38
COLOURS = 8
BUCKETS = 120
"""Longer series are averaged into this many columns; a faint band keeps their extremes."""


@dataclass(frozen=True)
class Series:
    """One line. Points that are not finite are left out and break the line."""

    label: str
    points: Sequence[tuple[float, float]]
    colour: int = 0
    dashed: bool = False


@dataclass(frozen=True)
class Level:
    """A horizontal line that the others are to be seen against."""

    label: str
    y: float


@dataclass(frozen=True)
class Mark:
    """One dot of a scatter with its short label and what hovering tells."""

    label: str
    x: float
    y: float
    title: str
    colour: int = 0
    hollow: bool = False


@dataclass(frozen=True)
class _Column:
    """The points of one series that share a place on the x axis."""

    x: float
    y: float
    low: float
    high: float


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str,
    levels: Sequence[Level] = (),
    log_y: bool = False,
    as_percent: bool = False,
    hint: str = "",
) -> str:
    """A figure with a legend that also reads out each line's last value.

    Args:
        title: the caption.
        series: at most `COLOURS` distinguishable lines.
        x_label: what runs along the bottom, in whole numbers.
        levels: horizontal references.
        log_y: logarithmic, if every value allows it.
        as_percent: values are fractions and read as percentages.
        hint: a few words on how to read it.
    """
    kept = [line for line in series if any(_drawable(x, y) for x, y in line.points)]
    if not kept:
        return empty_figure(title, "No finite value was recorded.")
    xs = [x for line in kept for x, y in line.points if _drawable(x, y)]
    ys = [y for line in kept for x, y in line.points if _drawable(x, y)] + [level.y for level in levels]
    log_y = log_y and min(ys) > 0 and max(ys) / min(ys) > 20
    x_low, x_high = (min(xs), max(xs)) if max(xs) > min(xs) else (min(xs) - 1, min(xs) + 1)
    across = Scale(x_low, x_high, LEFT, WIDTH - RIGHT, whole=True)
    up = Scale(*spread(ys, log=log_y), HEIGHT - BOTTOM, TOP, log_y, as_percent)
    show: Callable[[object], str] = percent if as_percent else plain
    columns = [_columns(line.points, x_low, x_high) for line in kept]
    body = [axes(across, up, x_label)]
    body += [_level(level, up) for level in levels]
    body += [_line(line, column, across, up) for line, column in zip(kept, columns, strict=True)]
    body.append(_hover(kept, columns, across, x_label, show))
    alone = _last(kept[0], show) if len(kept) == 1 and not levels else ""
    return figure(title, _legend(kept, levels, show), "".join(body), hint, alone)


def scatter(
    title: str,
    marks: Sequence[Mark],
    *,
    x_label: str,
    trails: Sequence[Series] = (),
    levels: Sequence[Level] = (),
) -> str:
    """Accuracy (a fraction, up) against a positive cost (logarithmic, along the bottom).

    Args:
        title: the caption.
        marks: the dots; labels that would touch another one are left to the hover text.
        x_label: what runs along the bottom.
        trails: faint lines that lead to the dots.
        levels: horizontal references.
    """
    dots = [mark for mark in marks if _drawable(mark.x, mark.y) and mark.x > 0]
    lines = [
        Series(t.label, [(x, y) for x, y in t.points if _drawable(x, y) and x > 0], t.colour, t.dashed) for t in trails
    ]
    places = [(mark.x, mark.y) for mark in dots] + [point for line in lines for point in line.points]
    if not places:
        return empty_figure(title, "No accuracy with a known cost yet.")
    across = Scale(*spread((x for x, _ in places), log=True, pad=0.12), LEFT, WIDTH - RIGHT, log=True)
    heights = [y for _, y in places] + [level.y for level in levels]
    up = Scale(*spread(heights, pad=0.12), HEIGHT - BOTTOM, TOP, as_percent=True)
    body = [axes(across, up, x_label)]
    body += [_level(level, up) for level in levels]
    for line in lines:
        body.append(_line(line, [_Column(x, y, y, y) for x, y in line.points], across, up, "trail"))
    taken = [(across(mark.x) - 6, up(mark.y) - 6, across(mark.x) + 6, up(mark.y) + 6) for mark in dots]
    for mark in dots:
        x, y = across(mark.x), up(mark.y)
        kind = "mark hollow" if mark.hollow else "mark"
        body.append(
            f'<circle class="{kind} {_colour(mark.colour)}" cx="{x:.1f}" cy="{y:.1f}" r="5">'
            f"<title>{esc(mark.title)}</title></circle>"
        )
        body.append(put_label(mark.label, x, y, taken))
    return figure(title, _legend([], levels, percent), "".join(body))


def empty_figure(title: str, message: str) -> str:
    """A chart's place when there is nothing to draw."""
    return f'<figure class="chart"><figcaption>{esc(title)}</figcaption><p class="empty">{esc(message)}</p></figure>'


def text_width(text: str, per_char: float = 6.3) -> float:
    """A safe guess in pixels at 11 px; wide scripts count double."""
    return sum(per_char * (2 if ord(char) > 0x2E7F else 1) for char in text)


def _drawable(x: float, y: float) -> bool:
    return math.isfinite(x) and math.isfinite(y)


def _colour(index: int) -> str:
    return f"c{index % COLOURS}"


def _columns(points: Sequence[tuple[float, float]], low: float, high: float) -> list[_Column]:
    """One column per point, or per bucket when there are many; a column without a finite value is a gap (y = NaN)."""
    points = [(x, y) for x, y in points if math.isfinite(x)]
    if len(points) <= BUCKETS:
        return [_Column(x, y if math.isfinite(y) else math.nan, y, y) for x, y in points]
    buckets: dict[int, list[tuple[float, float]]] = {}
    for x, y in points:
        buckets.setdefault(min(int((x - low) / (high - low) * BUCKETS), BUCKETS - 1), []).append((x, y))
    columns = []
    for _, bucket in sorted(buckets.items()):
        ys = [y for _, y in bucket if math.isfinite(y)] or [math.nan]
        columns.append(_Column(sum(x for x, _ in bucket) / len(bucket), sum(ys) / len(ys), min(ys), max(ys)))
    return columns


def _line(line: Series, columns: Sequence[_Column], across: Scale, up: Scale, kind: str = "line") -> str:
    runs: list[list[_Column]] = [[]]
    for column in columns:
        if math.isnan(column.y):
            runs.append([])
        else:
            runs[-1].append(column)
    css = f"{_colour(line.colour)}{' dashed' if line.dashed else ''}"
    parts = []
    for run in filter(None, runs):
        if any(column.high > column.low for column in run):
            edge = [(c.x, c.high) for c in run] + [(c.x, c.low) for c in reversed(run)]
            parts.append(f'<path class="band {css}" d="{path(edge, across, up)}Z"/>')
        if len(run) == 1:
            parts.append(f'<circle class="point {css}" cx="{across(run[0].x):.1f}" cy="{up(run[0].y):.1f}" r="3"/>')
        else:
            parts.append(f'<path class="{kind} {css}" d="{path([(c.x, c.y) for c in run], across, up)}"/>')
    return "".join(parts)


def path(points: Sequence[tuple[float, float]], across: Scale, up: Scale) -> str:
    """The `d` of a polyline."""
    return "M" + "L".join(f"{across(x):.1f} {up(y):.1f}" for x, y in points)


def axes(across: Scale, up: Scale, x_label: str) -> str:
    """Grid, ticks, and what runs along the bottom."""
    parts = []
    for value, text in up.ticks():
        y = up(value)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="tick end" x="{LEFT - 6}" y="{y + 3.5:.1f}">{esc(text)}</text>')
    bottom = HEIGHT - BOTTOM
    for value, text in across.ticks():
        half = text_width(text) / 2
        x = min(max(across(value), half), WIDTH - half)
        parts.append(f'<text class="tick mid" x="{x:.1f}" y="{bottom + 15}">{esc(text)}</text>')
    parts.append(f'<path class="axis" d="M{LEFT} {bottom}H{WIDTH - RIGHT}"/>')
    parts.append(f'<text class="name end" x="{WIDTH - RIGHT}" y="{bottom + 31}">{esc(x_label)}</text>')
    return "".join(parts)


def _level(level: Level, up: Scale) -> str:
    return f'<path class="level" d="M{LEFT} {up(level.y):.1f}H{WIDTH - RIGHT}"/>'


def _hover(
    series: Sequence[Series],
    columns: Sequence[Sequence[_Column]],
    across: Scale,
    x_label: str,
    show: Callable[[object], str],
) -> str:
    """Invisible full-height bars, one per place on the x axis, whose title reads out every line there."""
    readings: dict[int, tuple[float, list[str]]] = {}
    for line, line_columns in zip(series, columns, strict=True):
        for column in line_columns:
            slot = round((column.x - across.low) / (across.high - across.low) * BUCKETS)
            text = f"{line.label}  {show(column.y) if math.isfinite(column.y) else 'not finite'}"
            readings.setdefault(slot, (column.x, []))[1].append(text)
    places = sorted(readings.values(), key=lambda reading: reading[0])
    xs = [across(x) for x, _ in places]
    parts = []
    for i, (x, texts) in enumerate(places):
        left = (xs[i - 1] + xs[i]) / 2 if i else LEFT
        right = (xs[i] + xs[i + 1]) / 2 if i + 1 < len(xs) else WIDTH - RIGHT
        title = esc("\n".join([f"{x_label} {plain(round(x))}", *texts]))
        parts.append(
            f'<rect class="hover" x="{left:.1f}" y="{TOP}" width="{max(right - left, 0.5):.1f}" '
            f'height="{HEIGHT - TOP - BOTTOM}"><title>{title}</title></rect>'
        )
    return "".join(parts)


def put_label(text: str, x: float, y: float, taken: list[tuple[float, float, float, float]]) -> str:
    """The label beside its dot at the first of four places where it touches nothing; adds its box to `taken`."""
    text = shorten(text, 24)
    width = text_width(text)
    for left, base in ((x + 9, y + 4), (x - 9 - width, y + 4), (x - width / 2, y - 9), (x - width / 2, y + 17)):
        box = (left, base - 10, left + width, base + 3)
        inside = box[0] >= LEFT and box[2] <= WIDTH and box[1] >= 0 and box[3] <= HEIGHT - BOTTOM
        if inside and not any(
            box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3] for other in taken
        ):
            taken.append(box)
            return f'<text class="label" x="{left:.1f}" y="{base:.1f}">{esc(text)}</text>'
    return ""


def _legend(series: Sequence[Series], levels: Sequence[Level], show: Callable[[object], str]) -> str:
    """What each line is and where it ended; a line that is alone needs no name, its chart has one."""
    items = []
    for line in series if len(series) + len(levels) > 1 else ():
        css = f"{_colour(line.colour)}{' dashed' if line.dashed else ''}"
        items.append(f'<li class="{css}"><i></i><bdi>{esc(line.label)}</bdi> <b>{esc(_last(line, show))}</b></li>')
    items += [
        f'<li class="reference"><i></i><bdi>{esc(level.label)}</bdi> <b>{esc(show(level.y))}</b></li>'
        for level in levels
    ]
    return f'<ul class="legend">{"".join(items)}</ul>'


def _last(line: Series, show: Callable[[object], str]) -> str:
    finite = [y for x, y in line.points if _drawable(x, y)]
    return show(finite[-1]) if finite else MISSING


def figure(title: str, legend: str, body: str, hint: str = "", value: str = "") -> str:
    """A chart with its caption: `body` is what stands inside the SVG, `value` what the caption reads out."""
    value = f" <b>{esc(value)}</b>" if value else ""
    return (
        f'<figure class="chart"><figcaption><bdi>{esc(title)}</bdi>{value}</figcaption><p class="hint">{esc(hint)}</p>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{esc(title)}">{body}</svg>{legend}</figure>'
    )
