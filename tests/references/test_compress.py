"""CompRess against Eq. 1-3 of its paper, written again in loops."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from references.contrast import dot, minus_log_share, unit
from references.paper import Matrix, embed
from small_methods import fixed_batch, small_method, total
from wisp.errors import WispError
from wisp.methods.compress import CompRess, Config

T = 0.3


def small(**changes: object) -> CompRess:
    method = small_method("compress", batch_size=4, **({"temperature": T, "queue": 8} | changes)).double()
    assert isinstance(method, CompRess)
    return method


def divergence(ours: Matrix, our_queue: Matrix, theirs: Matrix, their_queue: Matrix) -> float:
    """Mean over the images of sum_i p_i (log p_i - log q_i), the teacher's p and the student's q over the queue."""
    found = []
    for s, t in zip(ours, theirs, strict=True):
        q, p = ([dot(row, key) / T for key in queue] for row, queue in ((s, our_queue), (t, their_queue)))
        minus_log_q, minus_log_p = ([minus_log_share(each, row) for each in row] for row in (q, p))
        found.append(sum(np.exp(-b) * (a - b) for a, b in zip(minus_log_q, minus_log_p, strict=True)))
    return float(np.mean(found))


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("queues", ["2q", "1q"])
def test_the_loss_is_the_papers_while_the_queues_fill_and_turn(queues: str, cached: bool) -> None:
    method = small(queues=queues, momentum=0.9, cached=cached)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    slow = copy.deepcopy(method.network)
    theirs, ours = np.zeros((0, method.teacher.width)), np.zeros((0, method.teacher.width if queues == "1q" else 64))
    for step in range(4):
        batch = fixed_batch(method, 4, seed=step, dtype=torch.float64)
        view = batch.views[0]
        shown = batch.remembered if cached else method.teacher([view])[0]
        key, mine, kept = unit(shown.numpy()), unit(embed(method.network, view)), unit(embed(slow, view))
        loss = total(method(batch, step / 4))
        if step == 0:
            assert loss.item() == pytest.approx(0, abs=1e-12), "there is nothing to compare with"
        else:
            wanted = divergence(mine, theirs if queues == "1q" else ours, key, theirs)
            assert wanted > 1e-5
            assert loss.item() == pytest.approx(wanted, rel=1e-9)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(step / 4)
        theirs, ours = np.concatenate([theirs, key])[-8:], np.concatenate([ours, kept])[-8:]
        if step == 2:  # full: the newest keys take the places of the oldest, and order means nothing to the loss
            assert method.queue.keys[:4].numpy() == pytest.approx(key, rel=1e-9)
        with torch.no_grad():
            for old, new in zip(slow.parameters(), method.network.parameters(), strict=True):
                old.mul_(0.9).add_(new, alpha=0.1)


def test_one_queue_has_a_linear_layer_and_no_slow_copy() -> None:
    one, two = small(queues="1q"), small()
    assert (one.slow, one.own) == (None, None)
    head = one.head()
    assert isinstance(head, torch.nn.Sequential)
    assert isinstance(head[0], torch.nn.Linear)
    assert one.queue.keys.shape == (8, one.teacher.width)
    assert two.head() is None
    assert two.own is not None
    assert two.own.keys.shape == (8, 64)


def test_a_cached_step_needs_no_teacher() -> None:
    method, asked = small(cached=True), small()
    for step in range(2):
        total(method(fixed_batch(method, 4, seed=step, dtype=torch.float64), 0.5)).backward()
        method.after_step(0.5)
    assert list(method.teacher.parameters()) == [], "its networks take no memory on the device"
    assert method.state_dict().keys() == asked.state_dict().keys()
    method.load_state_dict(asked.state_dict())
    with pytest.raises(WispError, match="the teacher small is not the one"):
        method.load_state_dict(method.state_dict() | {"teacher.fingerprint": torch.tensor(5)})


def test_the_settings_are_the_papers() -> None:
    config = Config()
    assert (config.teacher_head, config.queues, config.cached) == ("none", "2q", False)
    assert (config.temperature, config.momentum) == (0.04, 0.999)
    with pytest.raises(WispError, match="temperature is 0"):
        Config(temperature=0.0)
    with pytest.raises(WispError, match=r"momentum is 1\.5"):
        Config(momentum=1.5)
    with pytest.raises(WispError, match=r"--method.queue 4$"):
        small(queue=5)
