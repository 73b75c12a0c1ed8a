"""The information plane in the report and in words."""

import copy
import re

from svg import having, parsed
from wisp.report.information import in_words, information


def point(step: int, image: float, label: float | None, *, saturated: bool = False) -> dict[str, object]:
    return {
        "step": step,
        "image": image,
        "label": label,
        "chance": None if label is None else 0.25,
        "saturated": saturated,
    }


FOUND = {
    "images": 1000,
    "label_entropy": 3.32,
    "ceiling": 6.34,
    "ways": {
        "1.0": [point(0, 5.0, 1.0), point(4, 4.5, 1.5), point(8, 4.25, 2.0)],
        "<0.5>": [point(8, 4.0, 1.75)],
    },
}


def figures(section: str) -> list[str]:
    return re.findall(r"<figure.*?</figure>", section, re.DOTALL)


def unlabelled() -> dict[str, object]:
    return {**FOUND, "label_entropy": None, "ways": {"1x": [point(0, 5.0, None), point(4, 4.5, None)]}}


def test_every_width_has_a_way_with_its_first_and_last_place_marked() -> None:
    plane, beyond = figures(information({"information": FOUND}))
    marks = having(plane, "mark")
    assert [mark.get("class") for mark in marks] == ["mark hollow c0", "mark c0", "mark c1"]
    assert [dot.get("class") for dot in having(plane, "point")] == ["point c0"]
    assert marks[1].find("title").text == "1.0, step 8: I(X;T) 4.25, I(T;Y) 2.00, by chance 0.25"
    first, last = marks[0], marks[1]
    assert float(last.get("cx")) < float(first.get("cx"))  # I(X;T) fell
    assert float(last.get("cy")) < float(first.get("cy"))  # I(T;Y) rose, and pixels grow downwards
    legend = {item.find("bdi").text: item.find("b").text for item in parsed(plane).iter("li")}
    assert legend == {"1.0": "4.25, 2.00", "<0.5>": "4.00, 1.75"}
    legend = {item.find("bdi").text: item.find("b").text for item in parsed(beyond).iter("li")}
    assert legend == {"1.0": "1.75", "<0.5>": "1.5"}


def test_limits_and_chance_are_told() -> None:
    section = information({"information": FOUND})
    assert "1,000 images" in section
    assert "6.34 bits" in section
    assert "3.32 bits of the labels" in section
    assert "0.25 (<bdi>&lt;0.5&gt;</bdi>)" in section
    assert "Saturated" not in section


def test_saturation_is_told() -> None:
    found = copy.deepcopy(FOUND)
    found["ways"]["<0.5>"][-1]["saturated"] = True
    assert "Saturated" in information({"information": found})
    assert ", saturated</title>" in information({"information": found})
    assert in_words({"information": found})[0].endswith(", saturated")


def test_without_labels_the_image_is_drawn_over_the_steps() -> None:
    section = information({"information": unlabelled()})
    (alone,) = figures(section)
    assert "without labels there is no I(T;Y)" in alone
    assert "by chance" not in section
    assert in_words({"information": unlabelled()}) == [
        "information plane, in bits, of 1,000 images: 1x I(X;T) 5.00 to 4.50"
    ]


def test_one_line_tells_both_ends() -> None:
    assert in_words({"information": FOUND})[0] == (
        "information plane, in bits, of 1,000 images: 1.0 I(X;T) 5.00 to 4.25, I(T;Y) 1.00 to 2.00 (by chance 0.25); "
        "<0.5> I(X;T) 4.00, I(T;Y) 1.75 (by chance 0.25)"
    )


def test_nothing_found_is_no_section() -> None:
    assert information({"gradients": {}}) == ""
