"""What an encoder, its classifier and its teacher scored: percent in files, fractions on the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wisp.report.formats import number

Json = dict[str, Any]
TOP1 = "top-1"


@dataclass(frozen=True)
class Accuracy:
    """What one encoder scored, as fractions (the files hold percent); None where it was not measured."""

    knn: dict[str, float]
    linear: float | None
    top1: float | None = None
    """Of the classifier that was trained with it."""

    @property
    def protocols(self) -> dict[str, float]:
        """Protocol name -> accuracy, most important first: `top-1`, for which a classifier was trained, else `kNN-20`.

        Then `kNN-200` and `linear`.
        """
        knn = {f"kNN-{k}": value for k, value in sorted(self.knn.items(), key=lambda item: int(item[0]))}
        named = {TOP1: self.top1, **knn, "linear": self.linear}
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True)
class Judge:
    """A teacher that names classes, asked what its student was asked."""

    name: str
    probed: bool
    """Whether it names them by a linear probe of its features."""
    top1: float
    """A fraction."""
    answers: Json
    """Class by class, as a classifier's."""


def accuracy(row: Json) -> Accuracy:
    """Picks kNN, linear and top-1 out of one row of `result.json`, percent to fractions."""
    scores = (number(row.get("linear")), number((row.get("classifier") or {}).get("top1")))
    linear, top1 = (None if score is None else score / 100 for score in scores)
    return Accuracy(fractions(row.get("knn")), linear, top1)


def fractions(knn: object) -> dict[str, float]:
    """Accuracy by k, percent to fractions."""
    scores = knn.items() if isinstance(knn, dict) else ()
    return {str(k): value / 100 for k, raw in scores if str(k).isdigit() and (value := number(raw)) is not None}


def monitored(knn: object) -> dict[str, dict[str, float]]:
    """Encoder -> k -> fraction."""
    return {str(name): fractions(scores) for name, scores in knn.items()} if isinstance(knn, dict) else {}


def shares(top1: object) -> dict[str, float]:
    """Encoder -> fraction."""
    scores = top1.items() if isinstance(top1, dict) else ()
    return {str(name): value / 100 for name, raw in scores if (value := number(raw)) is not None}
