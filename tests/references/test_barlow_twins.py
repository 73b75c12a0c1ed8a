"""Barlow Twins against Eq. 1 and 2 of its paper, written again in loops."""

from __future__ import annotations

import pytest
import torch

from references.paper import barlow, embed
from small_methods import fixed_batch, small_method, total
from wisp.methods.barlow_twins import BarlowTwins


def small(**changes: object) -> BarlowTwins:
    method = small_method("barlow_twins", **({"hidden": 12, "out": 10} | changes)).double()
    assert isinstance(method, BarlowTwins)
    return method


@pytest.mark.parametrize("size", [6, 24])  # N < E and N > E take different paths
@pytest.mark.parametrize(("lam", "scale"), [(0.0051, 0.1), (0.3, 2.0)])
def test_the_loss_is_the_papers(size: int, lam: float, scale: float) -> None:
    method = small(lam=lam, scale=scale)
    batch = fixed_batch(method, size, dtype=torch.float64)
    za, zb = (embed(method.network, view) for view in batch.views)
    assert total(method(batch, 0.5)).item() == pytest.approx(scale * barlow(za, zb, lam), rel=1e-9)


def test_each_view_has_its_own_batch_statistics() -> None:
    """The authors encode the views one by one; statistics over both views together give another loss."""
    method = small()
    batch = fixed_batch(method, 8, dtype=torch.float64)
    both = torch.cat(batch.views)
    together = [half.numpy() for half in torch.from_numpy(embed(method.network, both)).chunk(2)]
    config = method.config
    assert total(method(batch, 0.5)).item() != pytest.approx(config.scale * barlow(*together, config.lam), rel=1e-3)


def test_perfect_agreement_costs_only_redundancy() -> None:
    method = small(lam=0.0, scale=1.0)
    batch = fixed_batch(method, 24, dtype=torch.float64)
    same = batch._replace(views=(batch.views[0], batch.views[0]))
    apart = total(method(batch, 0.5)).item()
    assert total(method(same, 0.5)).item() < 1e-4 * apart
