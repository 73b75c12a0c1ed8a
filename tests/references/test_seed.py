"""SEED against Eq. 3-6 of its paper, written again in loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from references.contrast import unit
from references.paper import Matrix, embed
from small_methods import fixed_batch, small_method, total
from wisp.data.plans import PLANS
from wisp.methods.seed import SEED


def softmax(row: Matrix) -> Matrix:
    shifted = np.exp(row - row.max())
    return shifted / shifted.sum()


def divergence(student: Matrix, key: Matrix, queue: list[Matrix], ts: float, tt: float) -> float:
    """Of one image: candidates are the teacher's own embedding of it, and the queue."""
    candidates = [key, *queue]
    p = softmax(np.array([key @ each for each in candidates]) / tt)
    q = softmax(np.array([student @ each for each in candidates]) / ts)
    return float(sum(a * (np.log(a) - np.log(b)) for a, b in zip(p, q, strict=True)))


@pytest.mark.parametrize("plan", ["seed_cifar", "multicrop_small"])
def test_the_loss_and_the_queues_are_the_papers(plan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PLANS, "seed_cifar", PLANS[plan])
    method = small_method("seed", batch_size=4, temperature=0.3, teacher_temperature=0.2).double()
    assert isinstance(method, SEED)
    sides = method.views.pixels(16)
    queues: dict[int, list[Matrix]] = {side: [] for side in sides}
    for step in range(2):
        batch = fixed_batch(method, 4, seed=step, dtype=torch.float64)
        found, fresh = [], {side: [] for side in queues}
        for side, view in zip(sides, batch.views, strict=True):
            students, keys = unit(embed(method.network, view)), unit(method.teacher([view])[0].numpy())
            found += [divergence(students[n], keys[n], queues[side], 0.3, 0.2) for n in range(4)]
            fresh[side] += list(keys)
        assert total(method(batch, 0.0)).item() == pytest.approx(np.mean(found), rel=1e-9)
        method.after_step(0.0)
        for side, keys in fresh.items():
            queues[side] += keys
    for side, queue in zip(dict.fromkeys(sides), method.queues, strict=True):
        assert len(queues[side]) <= len(queue.keys)
        assert queue.keys[: len(queues[side])].numpy() == pytest.approx(np.array(queues[side]), rel=1e-9)


def test_an_image_alone_tells_nothing() -> None:
    """With an empty queue the teacher's own embedding is the only candidate, on both sides."""
    method = small_method("seed", batch_size=4)
    assert total(method(fixed_batch(method, 4), 0.0)).item() == pytest.approx(0, abs=1e-6)
