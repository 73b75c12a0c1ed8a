"""Ways through a plane, one with or without a field under it, or several, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from wisp.report.charts import BOTTOM, COLOURS, HEIGHT, LEFT, RIGHT, TOP, WIDTH, axes, empty_figure, figure, path
from wisp.report.formats import esc, percent, plain
from wisp.report.scales import Scale, spread


@dataclass(frozen=True)
class Field:
    """Fractions on a grid: a row for every y, a column for every x, both evenly spaced and rising."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    values: Sequence[Sequence[float]]


def plane_chart(
    title: str,
    places: Sequence[tuple[float, float]],
    *,
    steps: Sequence[int],
    x_label: str,
    field: Field | None = None,
    hint: str = "",
    value: str = "",
) -> str:
    """A figure of the places that something passed, from pale to strong; its last one is a full dot.

    Args:
        title: the caption.
        places: in the order of time.
        steps: of the training, one a place.
        x_label: what runs along the bottom; the second component runs up.
        field: drawn below, pale where it is low.
        hint: a few words on how to read it.
        value: a figure that the caption reads out.
    """
    shown = [(x, y, step) for (x, y), step in zip(places, steps, strict=True) if math.isfinite(x) and math.isfinite(y)]
    if len(shown) < 2:
        return empty_figure(title, "No way to draw: fewer than two finite places.")
    xs, ys = [x for x, _, _ in shown], [y for _, y, _ in shown]
    half = [(edge[1] - edge[0]) / 2 for edge in (field.x, field.y)] if field else [0.0, 0.0]
    wide = (field.x[0] - half[0], field.x[-1] + half[0]) if field else spread(xs)
    tall = (field.y[0] - half[1], field.y[-1] + half[1]) if field else spread(ys)
    across, up = Scale(*wide, LEFT, WIDTH - RIGHT), Scale(*tall, HEIGHT - BOTTOM, TOP)
    body = [axes(across, up, x_label)]
    if field is not None:
        body.append(_cells(field, half, across, up))
        hint = f"{hint} {_extremes(field)}".strip()
    body.append(f'<path class="way" d="{path(list(zip(xs, ys, strict=True)), across, up)}"/>')
    for number, (x, y, step) in enumerate(shown):
        strength = 0.15 + 0.85 * number / (len(shown) - 1)
        last = number == len(shown) - 1
        body.append(
            f'<circle class="place" cx="{across(x):.1f}" cy="{up(y):.1f}" r="{5 if last else 3}" '
            f'opacity="{strength:.2f}"><title>step {step}: {esc(plain(x))}, {esc(plain(y))}</title></circle>'
        )
    return figure(title, "", "".join(body), hint, value)


@dataclass(frozen=True)
class Way:
    """Places (x, y) in the order of time, each with what hovering tells."""

    label: str
    places: Sequence[tuple[float, float]]
    titles: Sequence[str]


def ways_chart(title: str, ways: Sequence[Way], *, x_label: str, hint: str = "") -> str:
    """A figure of several ways, a colour each; the first place is hollow, the last one large.

    Args:
        title: the caption.
        ways: at most `COLOURS` distinguishable ones; one of a single place is its last.
        x_label: what runs along the bottom.
        hint: a few words on how to read it.
    """
    places = [place for way in ways for place in way.places]
    if not places or not all(map(math.isfinite, (number for place in places for number in place))):
        return empty_figure(title, "No way to draw: there is no place, or one that is not finite.")
    across = Scale(*spread((x for x, _ in places), pad=0.1), LEFT, WIDTH - RIGHT)
    up = Scale(*spread((y for _, y in places), pad=0.1), HEIGHT - BOTTOM, TOP)
    body, legend = [axes(across, up, x_label)], []
    for number, way in enumerate(ways):
        colour, last = f"c{number % COLOURS}", len(way.places) - 1
        body.append(f'<path class="trail {colour}" d="{path(way.places, across, up)}"/>')
        for place, ((x, y), told) in enumerate(zip(way.places, way.titles, strict=True)):
            kind, radius = ("mark", 6) if place == last else ("mark hollow", 5) if place == 0 else ("point", 2.5)
            body.append(
                f'<circle class="{kind} {colour}" cx="{across(x):.1f}" cy="{up(y):.1f}" r="{radius}">'
                f"<title>{esc(told)}</title></circle>"
            )
        x, y = way.places[-1]
        legend.append(f'<li class="{colour}"><i></i><bdi>{esc(way.label)}</bdi> <b>{x:.2f}, {y:.2f}</b></li>')
    return figure(title, f'<ul class="legend">{"".join(legend)}</ul>', "".join(body), hint)


def _cells(field: Field, half: Sequence[float], across: Scale, up: Scale) -> str:
    finite = [value for row in field.values for value in row if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    parts = []
    for y, row in zip(field.y, field.values, strict=True):
        top, bottom = up(y + half[1]), up(y - half[1])
        for x, value in zip(field.x, row, strict=True):
            left, right = across(x - half[0]), across(x + half[0])
            strength = 0.04 + 0.66 * (value - low) / (high - low) if high > low and math.isfinite(value) else 0.04
            parts.append(
                f'<rect class="cell" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" '
                f'height="{bottom - top:.1f}" opacity="{strength:.2f}"><title>{percent(value)}</title></rect>'
            )
    return "".join(parts)


def _extremes(field: Field) -> str:
    finite = [value for row in field.values for value in row if math.isfinite(value)]
    return f"{field.name}: {percent(min(finite))} (pale) to {percent(max(finite))}." if finite else ""
