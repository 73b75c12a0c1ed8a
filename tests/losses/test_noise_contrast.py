"""Noise-contrastive estimation with its gradient made in the forward pass, beside Eq. 17 and 18 left to autograd."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from wisp.losses.contrastive import unit
from wisp.losses.noise_contrast import noise_contrast

IMAGES, ROWS, WIDTH = 5, 12, 8


def embeddings(n: int, seed: int) -> Tensor:
    return unit(torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def pairs() -> Tensor:
    """Of every image another choice; the third has none, the fourth all."""
    taken = torch.rand(IMAGES, ROWS, generator=torch.Generator().manual_seed(3)) < 0.6
    taken[2], taken[3] = False, True
    return taken


def plain(own: Tensor, rows: Tensor, candidates: Tensor, taken: Tensor, level: float) -> Tensor:
    """-log h and -log(1 - h) pair by pair, h = e / (e + N mean e), from their logarithms."""
    total = own.new_zeros(())
    for image in range(IMAGES):
        chosen = candidates[taken[image]]
        if not len(chosen):
            continue
        noise = level + torch.tensor(float(len(chosen)), dtype=own.dtype).log()
        total = total - F.logsigmoid(own[image] - noise) - F.logsigmoid(noise - chosen @ rows[image]).sum()
    return total / IMAGES


@pytest.mark.parametrize("temperature", [1.0, 0.07, 1e-3, 1e-5])
@pytest.mark.parametrize("level", [0.4, -3.0, -torch.inf])
def test_it_is_the_papers_in_value_and_gradient(temperature: float, level: float) -> None:
    """Also where exp(cosine / t) is beyond every number."""
    ours, other, candidates, taken = (
        embeddings(IMAGES, 0).requires_grad_(),
        embeddings(IMAGES, 1),
        embeddings(ROWS, 2),
        pairs(),
    )
    scaled = torch.stack([ours, 2 * ours.flip(0)]) / temperature
    candidates = torch.stack([candidates, -candidates])
    own = (scaled * other).sum(dim=2)
    found = noise_contrast(own, scaled, candidates, taken, torch.tensor([level, 0.7], dtype=torch.float64))
    known = (level if level > -torch.inf else 0.0, 0.7)
    wanted = torch.stack([plain(*each, taken, one) for *each, one in zip(own, scaled, candidates, known, strict=True)])
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=0)
    slopes = [torch.autograd.grad(each.sum(), scaled, retain_graph=True)[0] for each in (found, wanted)]
    torch.testing.assert_close(*slopes, rtol=1e-10, atol=1e-12)
    assert not slopes[0][:, 2].any(), "nothing to be told from"


@pytest.mark.parametrize("temperature", [0.07, 1e-5])
def test_autocast_leaves_it_in_float32(temperature: float) -> None:
    """Rounded products would move the gradient by some thousandths."""
    ours, other, candidates = (embeddings(n, seed) for seed, n in enumerate((IMAGES, IMAGES, ROWS)))
    found = []
    for dtype in (torch.float64, torch.float32):
        scaled = (ours.to(dtype)[None] / temperature).requires_grad_()
        own = (scaled * other.to(dtype)).sum(dim=2)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.float32):
            loss = noise_contrast(own, scaled, candidates.to(dtype)[None], pairs(), torch.tensor([0.4])).sum()
        found.append((loss.item(), torch.autograd.grad(loss, scaled)[0].double()))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-6)
    torch.testing.assert_close(found[1][1], found[0][1], rtol=0, atol=1e-6 * found[0][1].abs().max().item())


def test_of_its_matrices_none_waits_for_the_backward_pass() -> None:
    held: list[tuple[int, ...]] = []
    rows = embeddings(IMAGES, 0)[None].requires_grad_()

    def note(kept: Tensor) -> Tensor:
        held.append(tuple(kept.shape))
        return kept

    with torch.autograd.graph.saved_tensors_hooks(note, lambda kept: kept):
        noise_contrast(rows.sum(dim=2), rows, embeddings(ROWS, 2)[None], pairs(), torch.tensor([0.0]))
    assert (1, IMAGES, WIDTH) in held
    assert all(shape[-1] != ROWS for shape in held if shape)


def test_a_second_derivative_is_refused() -> None:
    rows = embeddings(IMAGES, 0)[None].requires_grad_()
    loss = noise_contrast(rows.sum(dim=2), rows, embeddings(ROWS, 2)[None], pairs(), torch.tensor([0.0]))
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(loss, rows, create_graph=True)
