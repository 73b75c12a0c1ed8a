"""Distillation against a queue, without its similarities in memory, beside the formula that has them all."""

from __future__ import annotations

import math
import threading

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from wisp.losses import relation
from wisp.losses.contrastive import against_queue, unit
from wisp.losses.precision import full_precision, rounding_factors
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
@pytest.mark.parametrize("held", [2**22, 7 * 10, 1])
def test_it_is_the_divergence_of_all_similarities(
    ours: float, theirs: float, filled: int, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In blocks of 24 columns, of 10 (the last is a part), and one by one: value and gradient."""
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


def test_agreement_is_nothing() -> None:
    teacher = rows(4, seed=1)
    assert queue_distillation(teacher, teacher, *a_queue(9, 6), 0.1, 0.1).item() == pytest.approx(0, abs=1e-12)


def test_empty_slots_stay_away_at_any_temperature() -> None:
    """Opposite to its own candidate, and nothing else is there: an image alone, whatever the logits."""
    teacher = rows(4, seed=1)
    for ours, theirs in ((1e-5, 1e-5), (1e-5, 0.01)):
        found = queue_distillation(-teacher, teacher, *a_queue(9, 0), ours, theirs)
        assert found.item() == pytest.approx(0, abs=1e-9)


def test_no_more_similarities_are_held_than_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relation, "SIMILARITIES", 4 * 50)
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            found = func(*args, **(kwargs or {}))
            largest = max(largest, *(t.numel() for t in tree_leaves(found) if isinstance(t, Tensor)), 0)
            return found

    student, teacher = rows(4, width=2).requires_grad_(), rows(4, width=2, seed=1)
    queue, filled = rows(60, width=2, seed=2), torch.ones(60, dtype=torch.bool)
    with Watch():
        queue_distillation(student, teacher, queue, filled, 0.2, 0.01).backward()
    assert largest == 4 * 50, "fewer than the 4 x 60 that there are, and more than the queue's 60 x 2"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_one_image_in_any_layout_and_precision(dtype: torch.dtype) -> None:
    """Half numbers are raised before anything is computed; rows may lie across memory."""
    student, teacher, (queue, filled) = rows(1), rows(1, seed=1), a_queue(24, 19)
    given = [each.to(dtype).T.contiguous().T for each in (student, teacher, queue)]
    found = queue_distillation(*given, filled, 0.2, 0.04)
    assert found.dtype == torch.float32
    wanted = whole(*(each.double() for each in given), filled, 0.2, 0.04)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_what_is_negligible_is_lost_in_a_sum_and_no_subnormal_number() -> None:
    least, most = math.exp(relation.NEGLIGIBLE), 2**20
    assert least > torch.finfo(torch.float32).tiny / torch.finfo(torch.float32).eps
    assert most * least < torch.finfo(torch.float64).eps / 2


def test_a_second_derivative_is_refused() -> None:
    """It would be silently wrong."""
    student = rows(4).requires_grad_()
    found = queue_distillation(student, rows(4, seed=1), *a_queue(9, 6), 0.2, 0.1)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(found, student, create_graph=True)


def setting() -> str | None:
    products = getattr(torch.backends.mkldnn, "matmul", None)
    return None if products is None else products.fp32_precision


def test_products_under_autocast_round_their_factors_and_nothing_else() -> None:
    """Rounded factors and sums in float32 where the CPU multiplies bf16, exact products elsewhere."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(n, 128, generator=generator) + 2 for n in (64, 256))  # large enough for torch to round at all
    product = rounding_factors(full_precision(lambda x, y: x @ y.T))
    exact, rounded = a @ b.T, a.bfloat16().float() @ b.bfloat16().float().T
    assert torch.equal(product(a, b), exact)
    with torch.autocast("cpu", torch.bfloat16):
        found = product(a, b)
    gaps = [((found - wanted).abs() / wanted.abs()).max().item() for wanted in (rounded, exact)]
    assert min(gaps) < 1e-5
    assert torch.equal(a @ b.T, exact)


def test_the_setting_is_back_after_an_error_and_after_overlapping_calls() -> None:
    before, seen = setting(), []

    def fails() -> None:
        seen.append(setting())
        raise ZeroDivisionError

    inner = rounding_factors(lambda: seen.append(setting()))
    for on in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=on), pytest.raises(ZeroDivisionError):
            rounding_factors(fails)()
    assert seen == [before and "bf16", before]
    seen.clear()

    def outer() -> None:
        inner()
        seen.append(setting())

    with torch.autocast("cpu", torch.bfloat16):
        rounding_factors(outer)()
    assert seen == [before and "bf16"] * 2
    assert setting() == before


def test_threads_that_overlap_leave_the_setting_as_it_was() -> None:
    before, entered, leave = setting(), threading.Event(), threading.Event()

    def long() -> None:
        entered.set()
        leave.wait(10)

    def under_autocast(loss) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            rounding_factors(loss)()

    first = threading.Thread(target=under_autocast, args=(long,))
    first.start()
    assert entered.wait(10)

    def second() -> None:
        leave.set()
        first.join(10)

    under_autocast(second)
    assert setting() == before


def test_it_asks_for_rounded_products_under_autocast_only(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, addmm = [], torch.addmm

    def watched(*arguments: Tensor, **options: Tensor) -> Tensor:
        seen.append(setting())
        return addmm(*arguments, **options)

    monkeypatch.setattr(torch, "addmm", watched)
    before = setting()
    given = rows(4).float(), rows(4, seed=1).float(), *a_queue(9, 6)
    for on in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=on):
            assert queue_distillation(given[0], given[1], given[2].float(), given[3], 0.2, 0.01).dtype == torch.float32
    assert seen == [before and "bf16"] * 2 + [before] * 2
