"""Accuracy against a cost that can be read in two ways: a disc at the lower one, a ring at the higher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wisp.report.charts import BOTTOM, COLOURS, HEIGHT, LEFT, RIGHT, TOP, WIDTH, axes, empty_figure, figure, put_label
from wisp.report.formats import esc
from wisp.report.scales import Scale, spread


@dataclass(frozen=True, kw_only=True)
class Span:
    """One result with its least and its whole cost.

    Attributes:
        label: short, beside the disc.
        y: accuracy, a fraction.
        near: the lower cost, positive.
        far: the higher, or as much of it as is known.
        further: whether nobody knows how much more the higher one is.
        title: what hovering tells.
        colour: of the run.
    """

    label: str
    y: float
    near: float
    far: float
    further: bool
    title: str
    colour: int


def span_chart(title: str, spans: Sequence[Span], *, x_label: str, hint: str = "", as_time: bool = False) -> str:
    """A figure of accuracies (up) with both costs (logarithmic, along the bottom).

    Args:
        title: the caption.
        spans: a line each, between a disc and a ring; a disc alone where both costs are one, dashes where nobody knows.
        x_label: what runs along the bottom.
        hint: a few words on how to read it.
        as_time: costs are seconds.
    """
    if not spans:
        return empty_figure(title, "No accuracy with a known cost yet.")
    right = WIDTH - RIGHT
    reach = spread((cost for span in spans for cost in (span.near, span.far)), log=True, pad=0.14)
    across = Scale(*reach, LEFT, right, log=True, as_time=as_time)
    up = Scale(*spread((span.y for span in spans), pad=0.16), HEIGHT - BOTTOM, TOP, as_percent=True)
    body, discs, taken = [axes(across, up, x_label)], [], []
    for span in spans:
        colour, y, start, end = f"c{span.colour % COLOURS}", up(span.y), across(span.near), across(span.far)
        told = f"<title>{esc(span.title)}</title>"
        last = right if span.further else end
        if end > start:
            body.append(f'<path class="span {colour}" d="M{start:.1f} {y:.1f}H{end:.1f}"/>')
            discs.append(f'<circle class="mark hollow {colour}" cx="{end:.1f}" cy="{y:.1f}" r="5">{told}</circle>')
        if span.further:
            body.append(f'<path class="span open {colour}" d="M{end:.1f} {y:.1f}H{right}"/>')
        discs.append(f'<circle class="mark {colour}" cx="{start:.1f}" cy="{y:.1f}" r="5">{told}</circle>')
        taken.append((start - 6, y - 6, last + 6, y + 6))
    labels = [put_label(span.label, across(span.near), up(span.y), taken) for span in spans]
    return figure(title, "", "".join([*body, *discs, *labels]), hint)
