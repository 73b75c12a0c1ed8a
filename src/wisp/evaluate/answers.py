"""What a classifier took images for: how many it knows, class by class, and which classes it confuses.

Legend: M images that were asked about, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

MOST_CLASSES = 100
"""Classes that a receipt lists; of more only the `FEW` worst: it should stay a file that people open."""
FEW = 10
"""Worst classes and most confused pairs."""


@dataclass(frozen=True)
class Answers:
    """One answer for every image.

    Attributes:
        given: what each image was taken for, int64 [M].
        labels: what it is, int64 [M].
    """

    given: Tensor
    labels: Tensor

    @property
    def right(self) -> int:
        """How many images are what they were taken for."""
        return int((self.given == self.labels).sum())

    @property
    def top1(self) -> float:
        """The same in percent of all."""
        return 100 * self.right / len(self.labels)

    def told(self, classes: Sequence[str]) -> dict[str, Any]:
        """Plain values for a receipt.

        Args:
            classes: C names, by label.

        Returns:
            `questions` and `right`; `classes` (C) and `asked`, how many of them had a question; `largest`, the class
            with most questions; `by_class`, the lowest accuracy first; and `confused`, the most frequent first.
        """
        questions = torch.bincount(self.labels, minlength=len(classes)).tolist()
        right = torch.bincount(self.labels[self.given == self.labels], minlength=len(classes)).tolist()
        asked = [number for number, count in enumerate(questions) if count]
        asked.sort(key=lambda number: (right[number] / questions[number], -questions[number], number))
        largest = max(asked, key=lambda number: (questions[number], -number))
        shown = asked if len(asked) <= MOST_CLASSES else asked[:FEW]
        return {
            "questions": len(self.labels),
            "right": self.right,
            "classes": len(classes),
            "asked": len(asked),
            "largest": {"class": classes[largest], "questions": questions[largest]},
            "by_class": [
                {"class": classes[number], "questions": questions[number], "right": right[number]} for number in shown
            ],
            "confused": [
                {"class": classes[one], "taken_for": classes[other], "images": count, "questions": questions[one]}
                for one, other, count in self._confused(len(classes))[:FEW]
            ],
        }

    def _confused(self, classes: int) -> list[tuple[int, int, int]]:
        """(class, what it was taken for, how often), most often first; a matrix of 20,000 classes would fill memory."""
        wrong = self.given != self.labels
        pairs, counts = torch.unique(self.labels[wrong] * classes + self.given[wrong], return_counts=True)
        found = [(*divmod(pair, classes), count) for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True)]
        return sorted(found, key=lambda each: (-each[2], each[0], each[1]))


def without_looking(told: Mapping[str, Any]) -> tuple[str, int]:
    """The best that can be had without looking at an image: what it is, in words, and how many answers are right.

    Args:
        told: by `Answers.told`.
    """
    questions, most = int(told["questions"]), int(told["largest"]["questions"])
    if most * int(told["classes"]) <= questions:  # all classes have as many
        return "guessing", most
    return f"always {told['largest']['class']}", most


def doubt(told: Mapping[str, Any]) -> str | None:
    """A sentence where a classifier is no better than one that does not look, or hardly.

    Two standard errors of that one's count are what luck can do.

    Args:
        told: by `Answers.told`.
    """
    questions, right = int(told["questions"]), int(told["right"])
    how, blind = without_looking(told)
    known = f"The classifier knows {right:,} of {questions:,} images"
    if right <= blind:
        return f"{known}, no more than without looking at them ({how}: {blind:,})."
    if right - blind <= 2 * math.sqrt(blind * (1 - blind / questions)):
        return f"{known}, hardly more than without looking at them ({how}: {blind:,}): that may be luck."
    return None
