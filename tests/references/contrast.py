"""Cosines, softmax cross-entropies and assignments, one number at a time: where reference tests of contrasts start."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from references.paper import Matrix

Vector = Sequence[float] | Matrix


def unit(z: Matrix) -> Matrix:
    """Rows of length 1."""
    return np.array([row / math.sqrt(sum(x * x for x in row)) for row in z])


def dot(a: Vector, b: Vector) -> float:
    return float(sum(x * y for x, y in zip(a, b, strict=True)))


def minus_log_share(positive: float, candidates: Sequence[float]) -> float:
    """-log(exp(positive) / sum of exp(candidates)); the candidates hold the positive."""
    return math.log(sum(math.exp(c) for c in candidates)) - positive


def distance(p: Matrix, z: Matrix) -> float:
    """Mean squared distance of the rows, each at length 1."""
    p, z = unit(p), unit(z)
    return float(np.mean([sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) for a, b in zip(p, z, strict=True)]))
