"""SimSiam against Eq. 1-4 of its paper, written again in loops."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from references.contrast import dot, unit
from references.paper import Matrix, embed
from small_methods import fixed_batch, small_method, total
from wisp.methods.simsiam import SimSiam
from wisp.train.optimizers import build, set_lr


def negative_cosine(p: Matrix, z: Matrix) -> float:
    return -float(np.mean([dot(a, b) for a, b in zip(unit(p), unit(z), strict=True)]))


def test_the_loss_is_the_papers() -> None:
    method = small_method("simsiam", hidden=12, out=10, bottleneck=6).double()
    assert isinstance(method, SimSiam)
    batch = fixed_batch(method, 6, dtype=torch.float64)
    za, zb = (embed(method.network, view) for view in batch.views)
    pa, pb = (embed(method.predictor, torch.from_numpy(z)) for z in (za, zb))
    wanted = (negative_cosine(pa, zb) + negative_cosine(pb, za)) / 2
    assert total(method(batch, 0.5)).item() == pytest.approx(wanted, rel=1e-9)


def test_targets_get_no_gradient() -> None:
    """The gradient is that of predictions against the embeddings of another network with the same weights."""
    method = small_method("simsiam", hidden=12, out=10, bottleneck=6).double()
    assert isinstance(method, SimSiam)
    batch = fixed_batch(method, 6, dtype=torch.float64)
    targets = [torch.from_numpy(embed(method.network, view)) for view in batch.views]
    twin = copy.deepcopy(method)
    pa, pb = (twin.predictor(twin.network(view)) for view in batch.views)
    cos = torch.nn.functional.cosine_similarity
    (-(cos(pa, targets[1]) + cos(pb, targets[0])).mean() / 2).backward()
    total(method(batch, 0.5)).backward()
    for (name, one), other in zip(method.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-9, atol=1e-14, msg=name)


def test_the_predictors_rate_is_constant() -> None:
    method = small_method("simsiam", hidden=12, out=10, bottleneck=6)
    assert isinstance(method, SimSiam)
    optimizer = build("sgd", method, lr=0.5, weight_decay=1e-4)
    set_lr(optimizer, 0.01)
    constant = {id(p) for group in optimizer.param_groups if group["lr"] == 0.5 for p in group["params"]}
    assert constant == {id(p) for p in method.predictor.parameters()}
