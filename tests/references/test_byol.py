"""BYOL against Eq. 2 and section 3.2 of its paper, written again in loops."""

from __future__ import annotations

import copy

import pytest
import torch

from references.contrast import distance
from references.paper import embed
from small_methods import fixed_batch, small_method, total
from wisp.errors import WispError
from wisp.methods.byol import BYOL, Config


def test_two_steps_are_the_papers() -> None:
    method = small_method("byol", hidden=12, out=10, momentum=0.9).double()
    assert isinstance(method, BYOL)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    slow = copy.deepcopy(method.network[:2])
    for step, momentum in enumerate([0.9, 0.95]):
        batch = fixed_batch(method, 6, seed=step, dtype=torch.float64)
        pa, pb = (embed(method.network, view) for view in batch.views)
        za, zb = (embed(slow, view) for view in batch.views)
        loss = total(method(batch, step / 2))
        assert loss.item() == pytest.approx(distance(pa, zb) + distance(pb, za), rel=1e-9)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(step / 2)
        with torch.no_grad():
            for mine, theirs in zip(slow.parameters(), method.network[:2].parameters(), strict=True):
                mine.mul_(momentum).add_(theirs, alpha=1 - momentum)


def test_momentum_is_a_fraction() -> None:
    with pytest.raises(WispError, match="momentum is 2"):
        Config(momentum=2)
