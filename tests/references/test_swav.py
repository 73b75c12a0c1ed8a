"""SwAV against Eq. 1-5 of its paper, written again in loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from references.contrast import dot, minus_log_share, unit
from references.paper import Matrix, embed
from small_methods import fixed_batch, small_method, total
from wisp.losses.clustering import sinkhorn
from wisp.methods.swav import SwAV


def assigned(scores: Matrix, epsilon: float, iterations: int) -> Matrix:
    """Sinkhorn-Knopp on exp(scores / epsilon), [R,P], as Algorithm 1's `sinkhorn` does on its transpose."""
    q = np.exp(scores / epsilon).T
    prototypes, images = q.shape
    q /= q.sum()
    for _ in range(iterations):
        for p in range(prototypes):
            q[p] /= q[p].sum() * prototypes
        for i in range(images):
            q[:, i] /= q[:, i].sum() * images
    return (q * images).T


@pytest.mark.parametrize("progress", [0.0, 0.5])
def test_the_loss_is_the_papers(progress: float) -> None:
    settings = {"hidden": 12, "out": 10, "prototypes": 5, "queue": 8, "temperature": 0.3, "epsilon": 0.2}
    method = small_method("swav", batch_size=8, **settings).double()
    assert isinstance(method, SwAV)
    first = fixed_batch(method, 8, seed=3, dtype=torch.float64)
    method(first, 0.0)
    queues = [unit(embed(method.network, view)) for view in first.views]
    method.after_step(0.0)
    batch = fixed_batch(method, 8, dtype=torch.float64)
    prototypes = method.prototypes.detach().numpy()
    z = [unit(embed(method.network, view)) for view in batch.views]
    losses = []
    for i in range(2):
        rows = z[i] if progress == 0 else np.concatenate([z[i], queues[i]])
        codes = assigned(rows @ prototypes.T, 0.2, 3)[:8]
        for v in range(len(z)):
            for n in range(8 if v != i else 0):
                scores = [dot(z[v][n], p) / 0.3 for p in prototypes]
                losses.append(sum(c * minus_log_share(s, scores) for c, s in zip(codes[n], scores, strict=True)))
    assert total(method(batch, progress)).item() == pytest.approx(np.mean(losses), rel=1e-9)


def test_rows_that_take_no_part_are_not_there() -> None:
    scores = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    part = torch.tensor([True] * 6 + [False] * 3)
    masked = sinkhorn(scores, epsilon=0.1, iterations=3, taking_part=part)
    torch.testing.assert_close(masked[:6], sinkhorn(scores[:6], epsilon=0.1, iterations=3), rtol=1e-12, atol=0)
    assert not masked[6:].any()


def test_prototypes_keep_length_one() -> None:
    method = small_method("swav").double()
    assert isinstance(method, SwAV)
    with torch.no_grad():
        method.prototypes.mul_(3)
    method.after_step(0.5)
    torch.testing.assert_close(method.prototypes.norm(dim=1), torch.ones(len(method.prototypes), dtype=torch.float64))
