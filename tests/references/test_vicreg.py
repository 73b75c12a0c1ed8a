"""VICReg against Eq. 1-6 of its paper, written again in loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from references.paper import Matrix, embed
from small_methods import fixed_batch, small_method
from wisp.methods.vicreg import VICReg


def variance(z: Matrix) -> float:
    count, width = z.shape
    total = 0.0
    for j in range(width):
        spread = sum((x - z[:, j].mean()) ** 2 for x in z[:, j]) / (count - 1)
        total += max(0.0, 1 - np.sqrt(spread + 1e-4))
    return total / width


def covariance(z: Matrix) -> float:
    count, width = z.shape
    centred = z - z.mean(axis=0)
    c = sum(np.outer(row, row) for row in centred) / (count - 1)
    return sum(c[i, j] ** 2 for i in range(width) for j in range(width) if i != j) / width


@pytest.mark.parametrize("size", [4, 24])  # N < E and N > E take different paths
def test_the_terms_are_the_papers(size: int) -> None:
    method = small_method("vicreg", hidden=12, out=10, invariance=3.0, variance=5.0, covariance=7.0).double()
    assert isinstance(method, VICReg)
    batch = fixed_batch(method, size, dtype=torch.float64)
    za, zb = (embed(method.network, view) for view in batch.views)
    terms = method(batch, 0.5)
    assert terms["invariance"].item() == pytest.approx(3 * float(np.mean((za - zb) ** 2)), rel=1e-9)
    assert terms["variance"].item() == pytest.approx(5 * (variance(za) + variance(zb)) / 2, rel=1e-9)
    assert terms["covariance"].item() == pytest.approx(7 * (covariance(za) + covariance(zb)), rel=1e-9)
