"""The section of `wisp diagnose`: gradients, trajectory, error surface, and the condition of a shared linear layer."""

from __future__ import annotations

import math
import statistics

from wisp.report.charts import Level, Series, line_chart
from wisp.report.formats import esc, percent, plain
from wisp.report.planes import Field, plane_chart
from wisp.report.scored import Json


def interference(diagnosis: Json) -> str:
    """What a diagnosis found of gradients and weights, as far as the run allowed one; empty where it found nothing."""
    if not {"gradients", "trajectory", "conditions"} & set(diagnosis):
        return ""
    charts, gradients = [], diagnosis.get("gradients")
    if gradients:
        charts.append(_ratios(gradients))
        charts += [_directions(gradients)] if gradients["places"] else []
    if trajectory := diagnosis.get("trajectory"):
        charts.append(_trajectory(trajectory, diagnosis.get("surface")))
    note = (
        "Networks of several widths that share their weights pull at them in different directions (Zhao et al. 2022, "
        "Fig. 3 to 5). The gradient of the whole should outweigh that of the few entries which the smallest network "
        "has, and its directions should not jump (the cosine is the median of one kept gradient and the next)."
    )
    if gradients and not gradients["shared"]:
        note += " This run trained one network: a quarter of its channels stands for the smallest."
    drawn = f'<div class="charts">{"".join(charts)}</div>' if charts else ""
    return f'<p class="note">{note}</p>{drawn}{_conditions(diagnosis.get("conditions") or {})}'


def _ratios(gradients: Json) -> str:
    """Fig. 3."""
    steps, norms = gradients["steps"], gradients["norms"]
    lines = [
        Series(
            name,
            [(step, row[column] / row[2] if row[2] else math.nan) for step, row in zip(steps, norms, strict=True)],
            i,
        )
        for i, (name, column) in enumerate((("all / smallest", 0), ("rest / smallest", 1)))
    ]
    hint = f"Norms of the gradient; the smallest network has {percent(gradients['share'])} of the weights."
    return line_chart("Gradient of the whole", lines, x_label="step", levels=[Level("equal", 1.0)], hint=hint)


def _directions(gradients: Json) -> str:
    """Fig. 4."""
    return plane_chart(
        "Gradient directions",
        [(x, y) for x, y in gradients["places"]],
        steps=gradients["steps"],
        x_label="first component",
        hint=f"Of the last linear layer; {_held(gradients)}",
        value=f"cosine {plain(statistics.median(gradients['cosines']))}" if gradients["cosines"] else "",
    )


def _trajectory(trajectory: Json, surface: Json | None) -> str:
    """Fig. 5."""
    field = None
    if surface:
        rows = [[value / 100 for value in row] for row in surface["error"]]
        field = Field("kNN error", surface["x"], surface["y"], rows)
    return plane_chart(
        "Way of the weights",
        [(x, y) for x, y in trajectory["places"]],
        steps=trajectory["steps"],
        x_label="first component",
        field=field,
        hint=f"From pale to strong; {_held(trajectory)}",
        value=f"offset {plain(trajectory['offset'])}",
    )


def _held(plane: Json) -> str:
    first, second = (percent(share, 0) for share in plane["explained"])
    return f"the components hold {first} and {second} of the variance."


def _conditions(conditions: Json) -> str:
    """Appendix A."""
    if not conditions:
        return ""
    rows = "".join(
        f'<tr><th><bdi>{esc(name)}</bdi></th><td class="n">{plain(row["mean"])}</td>'
        f'<td class="n">{plain(row["total"])}</td><td class="n">{percent(row["relative"], 0)}</td></tr>'
        for name, row in conditions.items()
    )
    heads = "".join(f'<th class="n">{head}</th>' for head in ("Mean |L − R|", "Total", "Share of mean |R|"))
    return (
        '<h3>Could one linear layer serve two widths?</h3><p class="note">Only if both sides of Eq. 23 were equal: '
        "what least squares gives the first features of the full network, and what it gives the narrow one.</p>"
        f'<div class="scroll"><table><thead><tr><th>Width</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
    )
