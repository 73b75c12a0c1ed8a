"""MoCo v2 against Eq. 1 and Algorithm 1 of He et al. 2020, written again in loops."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from references.contrast import dot, minus_log_share, unit
from references.paper import Matrix, embed
from small_methods import fixed_batch, small_method, total
from wisp.errors import WispError
from wisp.methods.moco_v2 import Config, MocoV2
from wisp.methods.parts.shuffle import in_groups, shuffled

T = 0.3


def small(**changes: object) -> MocoV2:
    settings = {"hidden": 12, "out": 10, "temperature": T, "splits": 1, "queue": 16} | changes
    method = small_method("moco_v2", batch_size=8, **settings).double()
    assert isinstance(method, MocoV2)
    return method


def info_nce(queries: Matrix, keys: Matrix, queue: Matrix) -> float:
    losses = []
    for q, k in zip(queries, keys, strict=True):
        positive = dot(q, k) / T
        losses.append(minus_log_share(positive, [positive, *(dot(q, n) / T for n in queue)]))
    return float(np.mean(losses))


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_loss_is_the_papers_while_the_queue_fills_and_turns(symmetric: bool) -> None:
    method = small(symmetric=symmetric, momentum=0.9)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    slow = copy.deepcopy(method.network)
    queue = np.zeros((0, 10))
    for step in range(4):
        batch = fixed_batch(method, 8, seed=step, dtype=torch.float64)
        a, b = batch.views
        qa, qb = (unit(embed(method.network, view)) for view in (a, b))
        ka, kb = (unit(embed(slow, view)) for view in (a, b))
        wanted = (info_nce(qa, kb, queue) + info_nce(qb, ka, queue)) / 2 if symmetric else info_nce(qa, kb, queue)
        loss = total(method(batch, step / 4))
        assert loss.item() == pytest.approx(wanted, rel=1e-9, abs=1e-12)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(step / 4)
        queue = np.concatenate([queue, kb, ka] if symmetric else [queue, kb])[-16:]
        with torch.no_grad():
            for mine, theirs in zip(slow.parameters(), method.network.parameters(), strict=True):
                mine.mul_(0.9).add_(theirs, alpha=0.1)


def test_an_empty_queue_leaves_nothing_to_tell_apart() -> None:
    method = small()
    assert total(method(fixed_batch(method, 8, dtype=torch.float64), 0.0)).item() == pytest.approx(0, abs=1e-12)


def test_keys_are_normalised_in_other_groups_than_queries() -> None:
    """The same network and view on both sides: in the same groups a query would be its key."""
    method = small(splits=4)
    view = fixed_batch(method, 8, dtype=torch.float64).views[0]
    keys = method.targets((view, view), 0.5)[0]
    assert torch.equal(keys, method.targets((view, view), 0.5)[0]), "a function of the step"
    assert not torch.equal(keys, method.targets((view, view), 0.6)[0])
    queries = method.embeddings((method.network, method.network), (view, view))
    agreement = method.contrasts(queries, [keys])[0].cosines[:, 0]
    assert (agreement < 1 - 1e-6).sum() >= 4, "a few of so small groups may come out alike"
    whole = small(splits=1)
    torch.testing.assert_close(
        whole.targets((view, view), 0.5)[0], whole.targets((view, view), 0.6)[0], rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("steps", [200, 256])
def test_every_step_draws_its_own_groups(steps: int) -> None:
    orders = set()

    def network(x: torch.Tensor) -> torch.Tensor:
        orders.add(tuple(x[:, 0].tolist()))
        return x

    x = torch.arange(32.0)[:, None]
    for step in range(steps):
        assert torch.equal(shuffled(network, x, 1, step / steps), x), "keys come back in the order of the images"
    assert len(orders) == steps


@pytest.mark.parametrize(("size", "splits", "groups"), [(50, 8, 8), (36, 8, 8), (10, 4, 4), (5, 8, 2), (3, 8, 1)])
def test_no_group_has_one_image(size: int, splits: int, groups: int) -> None:
    seen: list[int] = []

    def network(x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return x

    x = torch.arange(float(size))[:, None]
    assert torch.equal(in_groups(network, x, splits), x)
    assert len(seen) == groups
    assert min(seen) >= 2


@pytest.mark.parametrize(("asked", "near"), [(7, 8), (20, 16), (3, 8)])
def test_a_queue_holds_whole_batches(asked: int, near: int) -> None:
    with pytest.raises(WispError, match=f"--method.queue {near}$"):
        small(queue=asked)


def test_the_default_queue_fits_the_data() -> None:
    """64 images, batches of 8: half of the images."""
    assert small(queue=None).chosen() == {"queue": 32}
    assert small(queue=None, symmetric=True).chosen() == {"queue": 32}
    with pytest.raises(WispError, match=r"momentum is 1\.5"):
        Config(momentum=1.5)
