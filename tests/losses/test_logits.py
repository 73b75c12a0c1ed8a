"""Distillation of logits against its papers' formulas, row by row in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wisp.losses.contrastive import ABSENT
from wisp.losses.logits import adaptive_temperature, decoupled, knowledge_distillation, squared_logits

GENERATOR = torch.Generator().manual_seed(0)
S, TEACHER = torch.randn(2, 4, 6, dtype=torch.float64, generator=GENERATOR).unbind()


def softmax(row: np.ndarray) -> np.ndarray:
    return np.exp(row) / np.exp(row).sum()


def kl(p: np.ndarray, q: np.ndarray) -> float:
    return float(sum(a * (np.log(a) - np.log(b)) for a, b in zip(p, q, strict=True)))


def test_knowledge_distillation() -> None:
    wanted = np.mean([9 * kl(softmax(t / 3), softmax(s / 3)) for s, t in zip(S.numpy(), TEACHER.numpy(), strict=True)])
    assert knowledge_distillation(S, TEACHER, 3.0).item() == pytest.approx(wanted, rel=1e-12)


def test_squared_logits() -> None:
    assert squared_logits(S, TEACHER).item() == pytest.approx(((S - TEACHER) ** 2).mean().item(), rel=1e-12)


def test_adaptive_temperature_makes_both_equally_sharp() -> None:
    rows = zip(S.numpy(), TEACHER.numpy(), strict=True)
    wanted = np.mean([kl(softmax(t / t.std()), softmax(s / s.std())) for s, t in rows])
    assert adaptive_temperature(S, TEACHER).item() == pytest.approx(wanted, rel=1e-9)
    assert adaptive_temperature(3 * TEACHER, TEACHER).item() == pytest.approx(0, abs=1e-12)


def test_decoupled_is_its_formula() -> None:
    positives = torch.tensor([0, 5, 2, 2])
    wanted = []
    for s, t, own in zip(S.numpy() / 2, TEACHER.numpy() / 2, positives.tolist(), strict=True):
        p, q = softmax(t), softmax(s)
        target = kl(np.array([p[own], 1 - p[own]]), np.array([q[own], 1 - q[own]]))
        others = kl(softmax(np.delete(t, own)), softmax(np.delete(s, own)))
        wanted.append(4 * (target + 8 * others))
    assert decoupled(S, TEACHER, positives, 2.0).item() == pytest.approx(np.mean(wanted), rel=1e-9)


@pytest.mark.parametrize(
    "distance",
    [
        lambda s, t: knowledge_distillation(s, t, 5.0),
        squared_logits,
        adaptive_temperature,
        lambda s, t: decoupled(s, t, torch.zeros(len(s), dtype=torch.int64), 5.0),
    ],
)
def test_candidates_that_take_no_part_change_nothing(distance) -> None:
    absent = torch.full((4, 3), ABSENT, dtype=torch.float64)
    s = torch.cat([S, absent], dim=1).requires_grad_()
    whole = distance(s, torch.cat([TEACHER, absent], dim=1))
    assert whole.item() == pytest.approx(distance(S, TEACHER).item(), rel=1e-9)
    whole.backward()
    assert torch.isfinite(s.grad).all()
    assert not s.grad[:, 6:].any()
