"""MoCo v3 against Algorithm 1 of its paper, written again in loops."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from references.contrast import dot, minus_log_share, unit
from references.paper import Matrix, embed
from small_methods import fixed_batch, small_method, total
from wisp.methods.moco_v3 import MocoV3


def ctr(queries: Matrix, keys: Matrix, t: float) -> float:
    rows = [[dot(q, k) / t for k in keys] for q in queries]
    return 2 * t * float(np.mean([minus_log_share(row[i], row) for i, row in enumerate(rows)]))


def test_two_steps_are_the_papers() -> None:
    t = 0.3
    method = small_method("moco_v3", hidden=12, out=10, temperature=t, momentum=0.9).double()
    assert isinstance(method, MocoV3)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    slow = copy.deepcopy(method.network[:2])
    for step, momentum in enumerate([0.9, 0.95]):  # 1 - 0.1 (cos(pi progress) + 1) / 2 at 0 and at one half
        batch = fixed_batch(method, 6, seed=step, dtype=torch.float64)
        qa, qb = (unit(embed(method.network, view)) for view in batch.views)
        ka, kb = (unit(embed(slow, view)) for view in batch.views)
        loss = total(method(batch, step / 2))
        assert loss.item() == pytest.approx(ctr(qa, kb, t) + ctr(qb, ka, t), rel=1e-9)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(step / 2)
        with torch.no_grad():
            for mine, theirs in zip(slow.parameters(), method.network[:2].parameters(), strict=True):
                mine.mul_(momentum).add_(theirs, alpha=1 - momentum)
