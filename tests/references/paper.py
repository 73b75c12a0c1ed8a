"""The correlation of two batches of embeddings, in loops over numpy float64: where every reference test starts.

SACL-XD Eq. 7 with centring, as its pseudo-code has it (z - mean) / std; 1e-5 on the variance is part of wisp's formula.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Matrix = NDArray[np.float64]
EPSILON = 1e-5


def correlation(a: Matrix, b: Matrix) -> Matrix:
    """C_ij between dimension i of `a` [N,E] and dimension j of `b` [N,E], one number at a time."""
    count, width = a.shape
    c = np.zeros((width, width))
    for i in range(width):
        x = a[:, i] - a[:, i].mean()
        for j in range(width):
            y = b[:, j] - b[:, j].mean()
            covariance = sum(x[n] * y[n] for n in range(count)) / count
            variances = [sum(v[n] ** 2 for n in range(count)) / count + EPSILON for v in (x, y)]
            c[i, j] = covariance / np.sqrt(variances[0] * variances[1])
    return c


def invariance(c: Matrix) -> float:
    """sum_i (1 - C_ii)^2."""
    return float(sum((1 - c[i, i]) ** 2 for i in range(len(c))))


def redundancy(c: Matrix) -> float:
    """sum_i sum_{j != i} C_ij^2."""
    return float(sum(c[i, j] ** 2 for i in range(len(c)) for j in range(len(c)) if i != j))


def barlow(a: Matrix, b: Matrix, lam: float) -> float:
    """Barlow Twins, Eq. 1; SACL-XD Eq. 8 with its first term squared."""
    c = correlation(a, b)
    return invariance(c) + lam * redundancy(c)


def embed(network: nn.Module, x: Tensor) -> Matrix:
    """Embeddings [N,E] with batch statistics, of a copy: nothing of `network` moves."""
    network = copy.deepcopy(network).train()
    with torch.no_grad():
        return network(x).numpy()
