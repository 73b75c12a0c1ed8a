"""What a classifier knows is counted: class by class, pair by pair, and against one that does not look."""

from __future__ import annotations

import pytest
import torch

from wisp.evaluate.answers import FEW, MOST_CLASSES, Answers, doubt, without_looking

NAMES = ["ant", "bee", "cat", "dog"]


def answers(labels: list[int], given: list[int]) -> Answers:
    return Answers(torch.tensor(given), torch.tensor(labels))


def test_accuracy_is_the_exact_quotient() -> None:
    found = Answers(torch.tensor([0] * 14 + [1] * 136), torch.zeros(150, dtype=torch.int64))
    assert found.right == 14
    assert found.top1 == 100 * 14 / 150


def test_classes_from_the_worst_and_pairs_from_the_most_frequent() -> None:
    """A bee is a cat twice, an ant once; a cat is an ant once. Nobody asked about dogs."""
    told = answers([0, 0, 1, 1, 1, 1, 2, 2], [0, 0, 1, 2, 2, 0, 2, 0]).told(NAMES)
    assert told["by_class"] == [
        {"class": "bee", "questions": 4, "right": 1},
        {"class": "cat", "questions": 2, "right": 1},
        {"class": "ant", "questions": 2, "right": 2},
    ]
    assert told["confused"] == [
        {"class": "bee", "taken_for": "cat", "images": 2, "questions": 4},
        {"class": "bee", "taken_for": "ant", "images": 1, "questions": 4},
        {"class": "cat", "taken_for": "ant", "images": 1, "questions": 2},
    ]
    assert (told["questions"], told["right"], told["classes"], told["asked"]) == (8, 4, 4, 3)
    assert told["largest"] == {"class": "bee", "questions": 4}


def test_what_is_taken_for_a_class_without_questions_is_counted() -> None:
    told = answers([0, 0, 1], [3, 3, 1]).told(NAMES)
    assert told["confused"] == [{"class": "ant", "taken_for": "dog", "images": 2, "questions": 2}]
    assert answers([0, 1], [0, 1]).told(NAMES)["confused"] == []


def test_of_very_many_classes_a_receipt_has_the_worst() -> None:
    count = MOST_CLASSES + 1
    labels = torch.arange(count).repeat(2)
    given = torch.where(labels >= count - 3, 0, labels)
    told = Answers(given, labels).told([f"c{number}" for number in range(count)])
    assert len(told["by_class"]) == FEW
    assert [row["class"] for row in told["by_class"][:4]] == ["c98", "c99", "c100", "c0"]
    assert [row["right"] for row in told["by_class"][:4]] == [0, 0, 0, 2]
    shifted = Answers((labels + 1) % count, labels).told([f"c{number}" for number in range(count)])
    assert len(shifted["confused"]) == FEW


@pytest.mark.parametrize(
    ("right", "text"), [(15, "no more than without"), (16, "hardly more"), (22, "that may be luck"), (23, None)]
)
def test_no_better_than_guessing_is_told(right: int, text: str | None) -> None:
    """Two standard errors of 15 in 150 are 7.3."""
    told = {"questions": 150, "right": right, "classes": 10, "largest": {"class": "ant", "questions": 15}}
    said = doubt(told)
    assert (said is None) == (text is None)
    if text is not None:
        assert text in str(said)
        assert "(guessing: 15)" in str(said)


def test_no_better_than_the_largest_class_is_told() -> None:
    told = answers([0] * 60 + [1] * 40, [0] * 70 + [1] * 30).told(NAMES[:2])
    assert told["right"] == 90
    assert doubt(told) is None
    lazy = answers([0] * 60 + [1] * 40, [0] * 100).told(NAMES[:2])
    assert without_looking(lazy) == ("always ant", 60)
    assert doubt(lazy) == (
        "The classifier knows 60 of 100 images, no more than without looking at them (always ant: 60)."
    )
