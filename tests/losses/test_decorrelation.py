"""Losses on the correlation matrix: both ways of computing them, their precision and their gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from references import paper
from wisp.losses.decorrelation import barlow, inner_correlation, negative_log, off_diagonal, standardize

SHAPES = [(4, 9), (9, 9), (20, 9), (2, 1)]


def pair(shape: tuple[int, int], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(sum(shape))
    a = torch.randn(shape, generator=generator, dtype=torch.float64)
    return a.to(dtype), (0.6 * a + torch.randn(shape, generator=generator, dtype=torch.float64) + 3).to(dtype)


@pytest.mark.parametrize("shape", SHAPES)
def test_standardised_embeddings_multiply_to_the_correlation(shape: tuple[int, int]) -> None:
    a, b = pair(shape)
    c = standardize(a).T @ standardize(b)
    np.testing.assert_allclose(c.numpy(), paper.correlation(a.numpy(), b.numpy()), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_losses_are_sums_over_the_matrix(shape: tuple[int, int]) -> None:
    a, b = pair(shape)
    za, zb = standardize(a), standardize(b)
    c = paper.correlation(a.numpy(), b.numpy())
    assert inner_correlation(za, zb).item() == pytest.approx(paper.invariance(c), rel=1e-9)
    assert off_diagonal(za, zb).item() == pytest.approx(paper.redundancy(c), rel=1e-9, abs=1e-12)
    assert barlow(za, zb, 0.3).item() == pytest.approx(paper.barlow(a.numpy(), b.numpy(), 0.3), rel=1e-9)


@pytest.mark.parametrize("shape", [(4, 9), (8, 9), (9, 9), (20, 9)])
def test_both_paths_of_the_off_diagonal_are_equal(shape: tuple[int, int]) -> None:
    """||Za' Zb||^2 = sum((Za Za') * (Zb Zb')), value and gradient; rows or columns of zeros choose the path only."""
    results = []
    for padded in ((0, 0), (0, 30), (30, 0)):  # (images, dimensions) of zeros
        leaves = [z.clone().requires_grad_() for z in map(standardize, pair(shape))]
        za, zb = (torch.nn.functional.pad(z, (0, padded[1], 0, padded[0])) for z in leaves)
        loss = off_diagonal(za, zb)
        results.append((loss.detach(), *torch.autograd.grad(loss, leaves)))
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-12)


def test_a_small_batch_never_builds_the_large_matrix() -> None:
    """N < E takes N^2 E operations: counted, not timed."""
    from torch.utils.flop_counter import FlopCounterMode

    counts = {}
    for shape in ((8, 64), (64, 8)):
        za, zb = map(standardize, pair(shape))
        with FlopCounterMode(display=False) as counter:
            off_diagonal(za, zb)
        counts[shape] = counter.get_total_flops()
    assert counts == {(8, 64): 2 * 2 * 8 * 8 * 64, (64, 8): 2 * 64 * 8 * 8}


def test_the_frozen_side_halves_the_gradient() -> None:
    for shape in SHAPES[:3]:
        raw = pair(shape)[0].requires_grad_()
        z = standardize(raw)
        (half,) = torch.autograd.grad(off_diagonal(z, z.detach()), raw, retain_graph=True)
        (full,) = torch.autograd.grad(off_diagonal(z, z), raw)
        torch.testing.assert_close(2 * half, full, rtol=1e-9, atol=1e-12)


def test_a_dead_dimension_has_no_correlation() -> None:
    a, b = pair((12, 5))
    a[:, 2] = 7.0
    a.requires_grad_()
    loss = barlow(standardize(a), standardize(b), 0.1)
    loss.backward()
    assert torch.isfinite(loss)
    assert a.grad is not None
    assert torch.isfinite(a.grad).all()
    assert (standardize(a)[:, 2] == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_raised(dtype: torch.dtype) -> None:
    """Inside autocast too, where a matrix product would be rounded to three digits."""
    a, b = pair((40, 16), dtype)
    exact = barlow(standardize(a.double()), standardize(b.double()), 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        za, zb = standardize(a), standardize(b)
        found = barlow(za, zb, 0.1)
    assert za.dtype == found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-6)


def test_negative_log_is_a_cross_entropy_towards_a_fixed_target() -> None:
    z, target = (x.requires_grad_() for x in pair((6, 5)))
    loss = negative_log(z, target)
    p, q = target.detach().softmax(1), z.detach().softmax(1)
    assert loss.item() == pytest.approx(float(-(p * q.log()).sum(1).mean()), rel=1e-12)
    gradient, none = torch.autograd.grad(loss, (z, target), allow_unused=True)
    assert none is None
    torch.testing.assert_close(gradient, (q - p) / len(z))
