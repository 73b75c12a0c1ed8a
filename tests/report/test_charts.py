import math
import re

from svg import having, parsed, places
from wisp.report.charts import BUCKETS, HEIGHT, WIDTH, Level, Mark, Series, line_chart, scatter

NAN = math.nan


def test_a_line_rises_where_its_values_do_and_stays_inside():
    figure = line_chart("Loss", [Series("loss", [(0, 1.0), (1, 3.0), (2, 2.0)])], x_label="step")
    (line,) = having(figure, "line")
    (x0, y0), (x1, y1), (x2, y2) = places(line.get("d", ""))
    assert x0 < x1 < x2
    assert y1 < y2 < y0  # pixels grow downwards
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in [(x0, y0), (x1, y1), (x2, y2)])
    assert parsed(figure).find("figcaption/b").text == "2"


def test_values_that_are_not_finite_break_the_line():
    points = [(0, 1.0), (1, 2.0), (2, NAN), (3, 3.0), (4, math.inf), (5, 1.0), (6, 2.0)]
    figure = line_chart("Loss", [Series("loss", points)], x_label="step")
    assert [len(places(line.get("d", ""))) for line in having(figure, "line")] == [2, 2]
    assert len(having(figure, "point")) == 1
    assert "nan" not in figure
    assert "not finite" in figure


def test_nothing_finite_is_said_in_words():
    figure = line_chart("Rank", [Series("rank", [(0, NAN)]), Series("none", [])], x_label="epoch")
    assert "<svg" not in figure
    assert "No finite value" in figure


def test_one_point_is_a_dot():
    figure = line_chart("kNN", [Series("1x", [(1, 0.9)])], x_label="epoch", as_percent=True)
    assert len(having(figure, "point")) == 1
    assert having(figure, "line") == []


def test_long_series_become_columns_whose_band_keeps_the_extremes():
    values = [(i, 1.0 + (i == 777) * 50) for i in range(10_000)]
    figure = line_chart("Loss", [Series("loss", values)], x_label="step")
    (line,), (band,) = having(figure, "line"), having(figure, "band")
    assert len(places(line.get("d", ""))) == BUCKETS
    top_of_line = min(y for _, y in places(line.get("d", "")))
    top_of_band = min(y for _, y in places(band.get("d", "")))
    assert top_of_band < top_of_line - 50
    assert len(having(figure, "hover")) <= BUCKETS + 1


def test_hovering_reads_out_every_line_at_that_place():
    lines = [Series("host", [(0, 1.0), (1, 2.0)]), Series("slim", [(0, 3.0), (1, 4.5)], 1)]
    titles = [bar.find("title").text for bar in having(line_chart("Terms", lines, x_label="step"), "hover")]
    assert titles == ["step 0\nhost  1\nslim  3", "step 1\nhost  2\nslim  4.5"]


def test_the_legend_names_several_lines_and_their_last_values():
    lines = [Series("1x", [(1, 0.8), (2, 0.9)]), Series("2x", [(1, 0.7), (2, NAN)], 1, dashed=True)]
    figure = line_chart("kNN", lines, x_label="epoch", levels=[Level("untrained", 0.5)], as_percent=True)
    texts = [re.sub(r"\s+", " ", "".join(item.itertext())) for item in parsed(figure).findall("ul/li")]
    assert texts == ["1x 90.0 %", "2x 70.0 %", "untrained 50.0 %"]


def test_a_logarithmic_axis_needs_positive_values_of_different_size():
    def gaps(values: list[float]) -> tuple[float, float]:
        figure = line_chart("x", [Series("x", list(enumerate(values)))], x_label="step", log_y=True)
        (line,) = having(figure, "line")
        ys = [y for _, y in places(line.get("d", ""))]
        return ys[0] - ys[1], ys[1] - ys[2]

    first, second = gaps([1, 10, 100])
    assert abs(first - second) < 0.3
    first, second = gaps([-1, 10, 100])
    assert second > 5 * first


def test_dots_lie_right_of_cheaper_ones_and_tell_their_story():
    marks = [Mark("A", 1e12, 0.8, "A: 80 %"), Mark("B", 1e14, 0.9, "B: 90 %", 1, hollow=True)]
    cheap, dear = having(scatter("kNN-20", marks, x_label="FLOP"), "mark")
    assert float(cheap.get("cx")) < float(dear.get("cx"))
    assert float(cheap.get("cy")) > float(dear.get("cy"))
    assert dear.find("title").text == "B: 90 %"
    assert "hollow" in dear.get("class")


def test_labels_of_a_scatter_never_overlap_and_stay_inside():
    marks = [Mark(f"run {i} 1x", 1e12 * (1 + 0.03 * (i % 5)), 0.8 + 0.004 * i, "t") for i in range(14)]
    figure = scatter("kNN-20", marks, x_label="FLOP")
    boxes = []
    for label in having(figure, "label"):
        x, y = float(label.get("x")), float(label.get("y"))
        boxes.append((x, y - 9, x + 6.0 * len(label.text), y + 2))
    assert 3 <= len(boxes) <= 14
    for i, a in enumerate(boxes):
        assert a[0] >= 0
        assert a[2] <= WIDTH
        for b in boxes[:i]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_points_without_a_cost_are_left_out():
    figure = scatter("kNN-20", [Mark("A", 0, 0.8, "t"), Mark("B", NAN, 0.8, "t")], x_label="FLOP")
    assert "<svg" not in figure


def test_labels_are_escaped():
    nasty = "<script>alert(1)</script>"
    line = line_chart(nasty, [Series(nasty, [(0, 1.0)]), Series("b", [(0, 2.0)])], x_label=nasty, hint=nasty)
    dots = scatter(nasty, [Mark(nasty, 1e3, 0.5, nasty)], x_label=nasty, levels=[Level(nasty, 0.4)])
    assert "<script" not in line + dots
    assert "&lt;script" in line
    assert "&lt;script" in dots
