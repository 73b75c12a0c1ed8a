"""SEED against Eq. 3-6 of its paper, written again in loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from references.contrast import unit
from references.paper import Matrix, embed
from small_methods import fixed_batch, small_method, total
from wisp.data.plans import PLANS
from wisp.methods.seed import SEED, SETTINGS, Config


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
    method = small_method("seed", batch_size=4, queue=8, temperature=0.3, teacher_temperature=0.2).double()
    assert isinstance(method, SEED)
    sides = method.views.pixels(16)
    queues: dict[int, list[Matrix]] = {side: [] for side in sides}
    for step in range(4):  # the queue of two batches turns over twice
        batch = fixed_batch(method, 4, seed=step, dtype=torch.float64)
        found, firsts = {side: [] for side in queues}, {}
        for side, view in zip(sides, batch.views, strict=True):
            students, keys = unit(embed(method.network, view)), unit(method.teacher([view])[0].numpy())
            found[side] += [divergence(students[n], keys[n], queues[side], 0.3, 0.2) for n in range(4)]
            firsts.setdefault(side, list(keys))
        expected = sum(np.mean(each) for each in found.values())
        assert total(method(batch, 0.0)).item() == pytest.approx(expected, rel=1e-9)
        method.after_step(0.0)
        queues = {side: [*queue, *firsts[side]][-8:] for side, queue in queues.items()}
    for side, queue in zip(dict.fromkeys(sides), method.queues, strict=True):
        found_keys = sorted(map(tuple, queue.keys.numpy().round(9)))
        assert found_keys == sorted(tuple(key.round(9)) for key in queues[side])


def test_the_settings_are_the_papers() -> None:
    config = Config()
    assert (config.temperature, config.teacher_temperature, config.hidden) == (0.2, 0.01, None)
    assert (SETTINGS["large"].lr, SETTINGS["large"].epochs, SETTINGS["large"].warmup_epochs) == (0.03, 200, 0)


def test_an_image_alone_tells_nothing() -> None:
    """With an empty queue the teacher's own embedding is the only candidate, on both sides."""
    method = small_method("seed", batch_size=4)
    assert total(method(fixed_batch(method, 4), 0.0)).item() == pytest.approx(0, abs=1e-6)
