"""Both sides of Eq. 23 from the appendix's own formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from wisp.errors import WispError
from wisp.interference.conditions import condition

N, D, D1, CLASSES = 60, 12, 5, 4


def features(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, x1 = (torch.randn(N, size, generator=generator, dtype=torch.float64) for size in (D, D1))
    return x, x1, torch.arange(N) % CLASSES


def test_both_sides_are_those_of_the_appendix() -> None:
    x, x1, labels = features(0)
    a, b, t = x[:, :D1].numpy(), x[:, D1:].numpy(), F.one_hot(labels).double().numpy()
    project = b @ np.linalg.inv(b.T @ b) @ b.T
    b11 = np.linalg.inv(a.T @ a - a.T @ project @ a)  # Eq. 21
    left = b11 @ (a.T - a.T @ project) @ t  # Eq. 23
    right = np.linalg.inv(x1.numpy().T @ x1.numpy()) @ x1.numpy().T @ t
    difference = np.abs(left - right)
    found = condition(x.float(), x1.float(), labels)
    assert found.mean == pytest.approx(difference.mean(), rel=1e-4)
    assert found.total == pytest.approx(difference.sum(), rel=1e-4)
    assert found.relative == pytest.approx(difference.mean() / np.abs(right).mean(), rel=1e-4)


def test_it_holds_where_the_other_features_tell_nothing_of_the_first() -> None:
    x, _, labels = features(1)
    orthogonal = torch.linalg.qr(x).Q
    assert condition(orthogonal, orthogonal[:, :D1], labels).relative == pytest.approx(0, abs=1e-10)


def test_a_dead_feature_is_no_obstacle() -> None:
    x, x1, labels = features(2)
    x[:, 1], x1[:, 2] = 0, 0
    assert condition(x, x1, labels).mean < 1


def test_more_features_than_images() -> None:
    x, x1, labels = features(3)
    with pytest.raises(WispError, match=r"Eq\. 23 needs as many images as features, 12 or more; there are 11"):
        condition(x[:11], x1[:11], labels[:11])
