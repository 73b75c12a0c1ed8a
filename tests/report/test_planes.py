"""Ways through a plane."""

import math

from svg import having
from wisp.report.charts import HEIGHT, WIDTH
from wisp.report.planes import Field, Way, plane_chart, ways_chart

PLACES = [(-2.0, 1.0), (-1.0, 3.0), (0.0, 0.0)]


def drawn(**changes: object) -> str:
    return plane_chart("Way", PLACES, **{"steps": [0, 5, 10], "x_label": "first", **changes})


def test_places_are_drawn_in_their_order_and_grow_stronger():
    dots = having(drawn(), "place")
    assert [dot.find("title").text for dot in dots] == ["step 0: −2, 1", "step 5: −1, 3", "step 10: 0, 0"]
    strength = [float(dot.get("opacity")) for dot in dots]
    assert strength == sorted(strength)
    assert strength[-1] == 1
    assert [float(dot.get("cx")) for dot in dots] == sorted(float(dot.get("cx")) for dot in dots)
    assert float(dots[1].get("cy")) < float(dots[0].get("cy")) < float(dots[2].get("cy"))  # pixels grow downwards
    assert all(0 <= float(dot.get("cx")) <= WIDTH and 0 <= float(dot.get("cy")) <= HEIGHT for dot in dots)


def test_a_field_lies_under_the_way_without_gaps():
    figure = drawn(
        field=Field("error", [-3, -1, 1], [-1, 2, 5], [[0.1, 0.2, 0.3], [0.2, math.nan, 0.4], [0.3, 0.4, 0.9]])
    )
    cells = having(figure, "cell")
    assert len(cells) == 9
    assert "error: 10.0" in figure
    assert "to 90.0" in figure
    low, high = float(cells[0].get("opacity")), float(cells[8].get("opacity"))
    assert low == min(float(cell.get("opacity")) for cell in cells)
    assert high == max(float(cell.get("opacity")) for cell in cells)
    left, right = (float(cells[i].get("x")) for i in (0, 1))
    assert abs(left + float(cells[0].get("width")) - right) < 0.2
    assert float(cells[0].get("y")) > float(cells[8].get("y"))


def test_a_way_of_one_place_is_said_in_words():
    assert "fewer than two" in plane_chart("Way", [(0, 0), (math.nan, 1)], steps=[0, 1], x_label="x")


def test_a_way_that_is_not_finite_is_said_in_words():
    assert "not finite" in ways_chart("Ways", [Way("1x", [(math.nan, 1.0)], ["lost"])], x_label="x")
    assert "no place" in ways_chart("Ways", [], x_label="x")
