"""DisCo against Eq. 1 and 2 of its paper, written again in loops over both bases."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from references.contrast import distance, dot, minus_log_share, unit
from references.paper import Matrix, embed
from references.test_swav import assigned
from small_methods import fixed_batch, small_method, total
from wisp.data.plans import PLANS
from wisp.errors import WispError
from wisp.methods.disco import Config, DisCo
from wisp.methods.moco_v2 import MocoV2
from wisp.methods.parts.shuffle import in_groups
from wisp.methods.swav import SwAV

T = 0.3


def small(**changes: object) -> DisCo:
    settings = {"hidden": 12, "temperature": T, "queue": 16} | changes
    if settings.get("base") != "swav":
        settings = {"splits": 1} | settings
    method = small_method("disco", batch_size=8, **settings).double()
    assert isinstance(method, DisCo)
    return method


def distilled(method: DisCo, views: tuple[Tensor, ...], weight: float) -> float:
    """Squared distance of unit embeddings, mean over images and added up over two views (mean over more, doubled)."""
    taught = [method.teacher([view])[0].numpy() for view in views]
    apart = [distance(embed(method.base.network, view), key) for view, key in zip(views, taught, strict=True)]
    return weight * 2 * float(np.mean(apart))


@pytest.mark.parametrize(("asked", "weight"), [(None, 32.0), (1.0, 1.0)])
def test_over_moco_v2_the_loss_is_the_papers_while_the_queue_fills(asked: float | None, weight: float) -> None:
    method = small(momentum=0.9, distill_weight=asked)
    assert isinstance(method.base, MocoV2)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    slow, queue = copy.deepcopy(method.base.network), np.zeros((0, 16))
    for step in range(3):
        batch = fixed_batch(method, 8, seed=step, dtype=torch.float64)
        queries, keys = unit(embed(method.base.network, batch.views[0])), unit(embed(slow, batch.views[1]))
        rows = [[dot(q, k) / T, *(dot(q, n) / T for n in queue)] for q, k in zip(queries, keys, strict=True)]
        contrast = float(np.mean([minus_log_share(row[0], row) for row in rows]))
        loss = total(method(batch, step / 3))
        assert loss.item() == pytest.approx(contrast + distilled(method, batch.views, weight), rel=1e-9)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(step / 3)
        queue = np.concatenate([queue, keys])[-16:]
        with torch.no_grad():
            for mine, theirs in zip(slow.parameters(), method.base.network.parameters(), strict=True):
                mine.mul_(0.9).add_(theirs, alpha=0.1)


def test_a_student_in_groups_is_the_one_that_is_distilled() -> None:
    """Both views of the student are normalised in the base's groups, and the keys in others."""
    method = small(splits=4)
    batch = fixed_batch(method, 8, dtype=torch.float64)
    with torch.no_grad():
        grouped = [in_groups(copy.deepcopy(method.base.network), view, 4).numpy() for view in batch.views]
    taught = [each.numpy() for each in method.teacher(batch.views)]
    wanted = sum(distance(student, key) for student, key in zip(grouped, taught, strict=True))
    assert method(batch, 0.0)["distill"].item() == pytest.approx(32 * wanted, rel=1e-9)
    assert not method.synchronised


@pytest.mark.parametrize("plan", ["simclr_cifar", "multicrop_small"])
@pytest.mark.parametrize("progress", [0.0, 0.5])
def test_over_swav_the_loss_is_the_papers(plan: str, progress: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PLANS, "simclr_cifar", PLANS[plan])
    method = small(base="swav", prototypes=5, queue=8)
    assert isinstance(method.base, SwAV)
    first = fixed_batch(method, 8, seed=3, dtype=torch.float64)
    method(first, 0.0)
    queues = [unit(embed(method.base.network, view)) for view in first.views[:2]]
    method.after_step(0.0)
    batch = fixed_batch(method, 8, dtype=torch.float64)
    prototypes: Matrix = method.base.prototypes.detach().numpy()
    z = [unit(embed(method.base.network, view)) for view in batch.views]
    losses = []
    for i in range(2):
        rows = z[i] if progress == 0 else np.concatenate([z[i], queues[i]])
        codes = assigned(rows @ prototypes.T, 0.05, 3)[:8]
        for v in range(len(z)):
            for n in range(8 if v != i else 0):
                scores = [dot(z[v][n], p) / T for p in prototypes]
                losses.append(sum(c * minus_log_share(s, scores) for c, s in zip(codes[n], scores, strict=True)))
    wanted = float(np.mean(losses)) + distilled(method, batch.views, 1.0)
    assert total(method(batch, progress)).item() == pytest.approx(wanted, rel=1e-8)


def test_a_student_that_is_its_teacher_is_not_pulled() -> None:
    method = small()
    batch = fixed_batch(method, 8, dtype=torch.float64)
    method.teacher.forward = lambda views: [3 * in_groups(method.base.network, view, 1).detach() for view in views]
    assert method(batch, 0.0)["distill"].item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"distill_weight": 0.0}, "distill_weight is 0"),
        ({"base": "swav", "splits": 4}, "swav has no splits; leave it out, or use another base"),
        ({"prototypes": 30}, "moco_v2 has no prototypes"),
        ({"temperature": -1.0}, "temperature is -1"),
    ],
)
def test_settings_out_of_range(settings: dict[str, object], said: str) -> None:
    with pytest.raises(WispError, match=said):
        Config(**settings)


def test_only_swav_takes_more_than_two_views(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PLANS, "mocov2_cifar", PLANS["multicrop_small"])
    with pytest.raises(WispError, match=r"^disco over moco_v2 takes 2 views, and --plan multicrop_small has 6; use"):
        small()
