"""Distillation against a queue, without its similarities in memory, beside the formula that has them all."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from wisp.losses import relation
from wisp.losses.contrastive import against_queue, unit
from wisp.losses.relation import queue_distillation, similarity_distillation

TEMPERATURES = pytest.mark.parametrize(("ours", "theirs"), [(0.2, 0.01), (0.04, 0.04), (0.2, 1e-4), (1e-3, 0.01)])


def rows(n: int, *, width: int = 8, seed: int = 0) -> Tensor:
    return unit(torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def a_queue(size: int, filled: int) -> tuple[Tensor, Tensor]:
    there = torch.arange(size) < filled
    return rows(size, seed=2) * there[:, None], there


def whole(student: Tensor, teacher: Tensor, queue: Tensor, filled: Tensor, ours: float, theirs: float) -> Tensor:
    placed, wanted = (against_queue(each, teacher, queue, filled).cosines for each in (student, teacher))
    return similarity_distillation(placed, wanted, ours, theirs)


@TEMPERATURES
@pytest.mark.parametrize("filled", [0, 1, 19, 24])
@pytest.mark.parametrize("held", [2**22, 24 * 3, 1])
def test_it_is_the_divergence_of_all_similarities(
    ours: float, theirs: float, filled: int, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In blocks of 7 rows, of 3, and one by one: value and gradient."""
    monkeypatch.setattr(relation, "SIMILARITIES", held)
    student, teacher, queue = rows(7).requires_grad_(), rows(7, seed=1), a_queue(24, filled)
    found = queue_distillation(student, teacher, *queue, ours, theirs)
    wanted = whole(student, teacher, *queue, ours, theirs)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-9, abs=1e-11)
    slopes = [torch.autograd.grad(each, student)[0] for each in (found, wanted)]
    torch.testing.assert_close(*slopes, rtol=1e-9, atol=1e-11)


def test_candidates_far_behind_count_for_nothing() -> None:
    """All of the queue opposite to the student: its own candidate has the whole share, in float32 too."""
    student, teacher = rows(3), rows(3, seed=1)
    queue = -unit(student.mean(0, keepdim=True)).expand(5, -1).contiguous()
    for dtype in (torch.float32, torch.float64):
        given = [each.to(dtype) for each in (student, teacher, queue)]
        found = queue_distillation(*given, torch.ones(5, dtype=torch.bool), 1e-3, 1e-3)
        wanted = whole(student, teacher, queue, torch.ones(5, dtype=torch.bool), 1e-3, 1e-3)
        assert torch.isfinite(found)
        assert found.item() == pytest.approx(wanted.item(), rel=1e-4)


def test_the_gradient_is_right() -> None:
    teacher, queue = rows(4, seed=1), a_queue(9, 6)
    torch.autograd.gradcheck(lambda s: queue_distillation(s, teacher, *queue, 0.2, 0.1), (rows(4).requires_grad_(),))


def test_the_teacher_gets_no_gradient() -> None:
    student, teacher = rows(4).requires_grad_(), rows(4, seed=1).requires_grad_()
    found = queue_distillation(student, teacher, *a_queue(9, 6), 0.2, 0.1)
    assert torch.autograd.grad(found, (student, teacher), allow_unused=True)[1] is None


@pytest.mark.parametrize("inference", [False, True])
def test_agreement_is_nothing(inference: bool) -> None:
    with torch.inference_mode(inference):
        teacher = rows(4, seed=1)
    assert queue_distillation(teacher.clone(), teacher, *a_queue(9, 6), 0.1, 0.1).item() == pytest.approx(0, abs=1e-12)


def test_autocast_rounds_factors_and_leaves_the_setting_as_it_was() -> None:
    """Three digits of a factor, where a CPU rounds them at all; never of a sum, nor of a similarity."""
    student, teacher = (rows(16, width=128, seed=seed).float() for seed in (0, 1))
    near = unit(teacher + 0.3 * student)  # similarities close to 1, where bf16 has steps of 1/256
    queue = unit(near.repeat(8, 1) + 0.02 * torch.randn(128, 128, generator=torch.Generator().manual_seed(3)))
    filled = torch.ones(128, dtype=torch.bool)
    wanted = queue_distillation(student, teacher, queue, filled, 0.2, 0.01)
    products = getattr(torch.backends.mkldnn, "matmul", None)
    before = products and products.fp32_precision
    with torch.autocast("cpu", torch.bfloat16):
        found = queue_distillation(student, teacher, queue, filled, 0.2, 0.01)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(wanted.item(), rel=2e-3)
    assert (products and products.fp32_precision) == before
