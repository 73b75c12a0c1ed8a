"""What a diagnosis looks like."""

import re

from svg import having, parsed
from wisp.report.interference import interference

GRADIENTS = {
    "steps": [0, 10],
    "norms": [[0.0, 0.0, 0.0], [6.0, 4.0, 2.0]],
    "share": 0.25,
    "shared": True,
    "places": [[0.0, 1.0], [1.0, 0.0]],
    "explained": [0.7, 0.2],
    "cosines": [0.5, 0.1, 0.2],
}


def figures(section: str) -> list[str]:
    return re.findall(r"<figure.*?</figure>", section, re.DOTALL)


def test_each_line_has_its_own_ratio() -> None:
    ratios, _ = figures(interference({"gradients": GRADIENTS}))
    legend = {item.find("bdi").text: item.find("b").text for item in parsed(ratios).iter("li")}
    assert legend == {"all / smallest": "3", "rest / smallest": "2", "equal": "1"}
    assert "25.0" in ratios


def test_directions_say_their_variance_and_their_cosine() -> None:
    _, directions = figures(interference({"gradients": GRADIENTS}))
    assert "components hold 70" in directions
    assert "cosine 0.2" in directions
    assert len(having(directions, "place")) == 2


def test_without_a_plane_the_ratios_stay() -> None:
    assert len(figures(interference({"gradients": {**GRADIENTS, "places": None, "explained": None}}))) == 1


def test_a_run_of_one_network_says_whose_part_the_smallest_is() -> None:
    said = "a quarter of its channels stands for the smallest"
    assert said in interference({"gradients": {**GRADIENTS, "shared": False}})
    assert said not in interference({"gradients": GRADIENTS})


def test_the_surface_is_an_error_and_the_offset_is_told() -> None:
    trajectory = {"steps": [0, 5, 10], "places": [[2, 1], [1, 1], [0, 0]], "explained": [0.9, 0.05], "offset": 1.25}
    surface = {"x": [-1, 1, 3], "y": [-1, 1, 3], "error": [[50, 60, 70], [55, 65, 75], [60, 70, 80]]}
    (way,) = figures(interference({"trajectory": trajectory, "surface": surface}))
    assert "offset 1.25" in way
    titles = [cell.find("title").text for cell in having(way, "cell")]
    assert titles[0].startswith("50.0")
    assert titles[-1].startswith("80.0")
    (bare,) = figures(interference({"trajectory": trajectory}))
    assert not having(bare, "cell")
