"""The information plane of `wisp diagnose`: the way of every width, in the report and in words."""

from __future__ import annotations

from collections.abc import Sequence

from wisp.report.charts import Series, line_chart
from wisp.report.formats import esc
from wisp.report.planes import Way, ways_chart
from wisp.report.scored import Json

_SATURATED = (
    " <b>Saturated:</b> in some places cells hold fewer than two images; those tell more of the number of images than "
    "of the network."
)


def information(diagnosis: Json) -> str:
    """What a diagnosis found of images and labels in the features; empty where it found nothing."""
    if not (found := diagnosis.get("information")):
        return ""
    ways, labelled = found["ways"], found["label_entropy"] is not None
    note = (
        "T is a coarse version of the features: whether an image lies low, in the middle or high along each of the "
        "four leading principal components. I(X;T) is how much of the image it keeps, I(T;Y) how much of the label; "
        "DisCo (section 3.3) reads a smaller I(X;T) at the same I(T;Y) as better generalisation. These are estimates "
        f"from {found['images']:,} images: I(X;T) cannot pass {found['ceiling']:.2f} bits"
    )
    if labelled:
        chance = ", ".join(f"{way[-1]['chance']:.2f} (<bdi>{esc(name)}</bdi>)" for name, way in ways.items())
        note += (
            f" and I(T;Y) not the {found['label_entropy']:.2f} bits of the labels; by chance, with the labels dealt at "
            f"random, I(T;Y) would be {chance} at the last place"
        )
    saturated = any(point["saturated"] for way in ways.values() for point in way)
    drawn = _plane(ways) + _beyond_chance(ways) if labelled else _alone(ways)
    return f'<p class="note">{note}.{_SATURATED if saturated else ""}</p><div class="charts">{drawn}</div>'


def in_words(diagnosis: Json) -> list[str]:
    """One line on the first and the last place of every width; none where a diagnosis found nothing."""
    if not (found := diagnosis.get("information")):
        return []
    labelled = found["label_entropy"] is not None
    told = []
    for name, way in found["ways"].items():
        parts = [f"{name} I(X;T) {_ends(way, 'image')}"]
        parts += [f"I(T;Y) {_ends(way, 'label')} (by chance {way[-1]['chance']:.2f})"] if labelled else []
        parts += ["saturated"] if way[-1]["saturated"] else []
        told.append(", ".join(parts))
    return [f"information plane, in bits, of {found['images']:,} images: {'; '.join(told)}"]


def _ends(way: Sequence[Json], key: str) -> str:
    ends = [way[0], way[-1]] if len(way) > 1 else way
    return " to ".join(f"{point[key]:.2f}" for point in ends)


def _plane(ways: dict[str, Sequence[Json]]) -> str:
    """Fig. 7 of DisCo."""
    return ways_chart(
        "Image and label in the features",
        [
            Way(name, [(p["image"], p["label"]) for p in way], [f"{name}, {_told(p)}" for p in way])
            for name, way in ways.items()
        ],
        x_label="I(X;T), bits",
        hint="Upwards I(T;Y), bits. Hollow: the first place; large: the last.",
    )


def _beyond_chance(ways: dict[str, Sequence[Json]]) -> str:
    """The same without most of the bias."""
    lines = [
        Series(name, [(p["step"], p["label"] - p["chance"]) for p in way], i)
        for i, (name, way) in enumerate(ways.items())
    ]
    hint = "I(T;Y), in bits, less what chance would give."
    return line_chart("Label beyond chance", lines, x_label="step", hint=hint)


def _alone(ways: dict[str, Sequence[Json]]) -> str:
    lines = [Series(name, [(p["step"], p["image"]) for p in way], i) for i, (name, way) in enumerate(ways.items())]
    hint = "I(X;T), in bits; without labels there is no I(T;Y)."
    return line_chart("Image in the features", lines, x_label="step", hint=hint)


def _told(point: Json) -> str:
    told = f"step {point['step']:,}: I(X;T) {point['image']:.2f}, I(T;Y) {point['label']:.2f}"
    return f"{told}, by chance {point['chance']:.2f}{', saturated' if point['saturated'] else ''}"
