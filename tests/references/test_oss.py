"""OSS, as its source note reads it, written again in loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from references.contrast import dot, unit
from references.paper import Matrix, embed
from references.test_swav import assigned
from small_methods import begun, fixed_batch
from wisp.data.plans import PLANS
from wisp.methods import swav
from wisp.methods.oss import OSS, SETTINGS, Config

T = 0.3


def shares(z: Matrix, prototypes: Matrix) -> list[float]:
    """Softmax of one embedding's similarities with the prototypes."""
    raised = [math.exp(dot(z, prototype) / T) for prototype in prototypes]
    return [each / sum(raised) for each in raised]


@pytest.mark.parametrize("plan", ["simclr_cifar", "multicrop_small"])
@pytest.mark.parametrize("progress", [0.0, 0.5])
def test_the_losses_are_the_readings(plan: str, progress: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PLANS, "simclr_cifar", PLANS[plan])
    settings = {"hidden": 12, "out": 10, "prototypes": 5, "queue": 32, "temperature": T}
    method = begun("oss", **settings).double()
    assert isinstance(method, OSS)
    batch = fixed_batch(method, 8, dtype=torch.float64)
    prototypes = method.clusters.prototypes.detach().numpy()
    queues = [queue.keys.numpy()[: int(queue.seen)] for queue in method.clusters.queues]
    theirs = [unit(embed(method.teacher, view)) for view in batch.views]
    own = [unit(embed(method.student, view)) for view in batch.views]
    swap, distill = [], []
    for i in range(2):
        rows = np.concatenate([theirs[i], queues[i]]) if progress else theirs[i]
        codes = assigned(rows @ prototypes.T, 0.05, 3)
        for v in range(len(theirs)):
            for n in range(8 if v != i else 0):
                predicted = shares(theirs[v][n], prototypes)
                swap.append(-sum(q * math.log(p) for q, p in zip(codes[n], predicted, strict=True)))
    for v in range(len(own)):
        for n in range(8):
            target, found = shares(theirs[v][n], prototypes), shares(own[v][n], prototypes)
            distill.append(sum(q * (math.log(q) - math.log(p)) for q, p in zip(target, found, strict=True)))
    terms = method(batch, progress)
    assert set(terms) == {"teacher", "distill"}
    assert terms["teacher"].item() == pytest.approx(np.mean(swap), rel=1e-9)
    assert terms["distill"].item() == pytest.approx(np.mean(distill), rel=1e-9)


def test_the_settings_are_swavs() -> None:
    config = Config()
    assert (config.prototypes, config.temperature, config.epsilon) == (3000, 0.1, 0.05)
    assert (config.queue, config.queue_start, config.frozen) == (None, 0.05, 0.002)
    assert (config.hidden, config.out) == (2048, 128)
    assert vars(config.clustering()) == vars(swav.Config())
    for size, plan in (("small", "simclr_cifar"), ("large", "swav")):
        each = SETTINGS[size]
        assert (each.plan, each.optimizer, each.lr, each.weight_decay) == (plan, "lars", 0.6, 1e-6)
        assert (each.epochs, each.batch_size) == (200, 256)
    assert (SETTINGS["small"].warmup_epochs, SETTINGS["large"].warmup_epochs) == (10, 0)
