"""ReKD, as its source note reads it, written again in loops."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from references.contrast import dot, minus_log_share, unit
from references.paper import Matrix, embed
from small_methods import fixed_batch, small_method, total
from wisp.errors import WispError
from wisp.losses.contrastive import ABSENT, info_nce, info_nce_of_many
from wisp.methods import moco_v2
from wisp.methods.rekd import SETTINGS, Config, ReKD

T = 0.3


def small(**changes: object) -> ReKD:
    settings = {"hidden": 12, "out": 10, "temperature": T, "momentum": 0.9, "splits": 1, "queue": 16} | changes
    method = small_method("rekd", batch_size=8, **settings).double()
    assert isinstance(method, ReKD)
    return method


def own_contrast(query: Matrix, key: Matrix, queue: Matrix) -> float:
    positive = dot(query, key) / T
    return minus_log_share(positive, [positive, *(dot(query, other) / T for other in queue)])


def related_contrast(query: Matrix, key: Matrix, queue: Matrix, akin: list[int]) -> float:
    """Mean over the positives, each by itself among all candidates."""
    cosines = [dot(query, key) / T, *(dot(query, other) / T for other in queue)]
    found = [minus_log_share(cosines[place], cosines) for place in (0, *(1 + place for place in akin))]
    return sum(found) / len(found)


@pytest.mark.parametrize("neighbours", [3, 12])
def test_the_losses_are_the_readings_while_the_queues_fill_and_turn(neighbours: int) -> None:
    method = small(neighbours=neighbours, relation=0.7)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    networks = {"student": method.student, "teacher": method.teacher}
    slow = copy.deepcopy(networks)
    queues = {name: np.zeros((0, 10)) for name in networks}
    for step in range(4):
        batch = fixed_batch(method, 8, seed=step, dtype=torch.float64)
        query = {name: unit(embed(network, batch.views[0])) for name, network in networks.items()}
        key = {name: unit(embed(network, batch.views[1])) for name, network in slow.items()}
        wanted = {
            "teacher": [own_contrast(query["teacher"][n], key["teacher"][n], queues["teacher"]) for n in range(8)],
            "instance": [own_contrast(query["student"][n], key["student"][n], queues["student"]) for n in range(8)],
            "relation": [],
        }
        for n in range(8):
            likeness = [dot(query["teacher"][n], other) for other in queues["teacher"]]
            akin = sorted(range(len(likeness)), key=lambda place: -likeness[place])[:neighbours]
            found = related_contrast(query["student"][n], key["student"][n], queues["student"], akin)
            wanted["relation"].append(0.7 * found)
        terms = method(batch, step / 4)
        assert set(terms) == set(wanted)
        for name, values in wanted.items():
            assert terms[name].item() == pytest.approx(np.mean(values), rel=1e-9, abs=1e-12), name
        optimizer.zero_grad()
        total(terms).backward()
        optimizer.step()
        method.after_step(step / 4)
        for name, network in networks.items():
            queues[name] = np.concatenate([queues[name], key[name]])[-16:]
            with torch.no_grad():
                for mine, theirs in zip(slow[name].parameters(), network.parameters(), strict=True):
                    mine.mul_(0.9).add_(theirs, alpha=0.1)


def test_one_positive_is_the_plain_contrast_and_absent_ones_do_not_count() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.rand(6, 9, generator=generator, dtype=torch.float64) * 2 - 1
    own = torch.zeros(6, dtype=torch.int64)
    plain = info_nce(rows, own, T)
    torch.testing.assert_close(info_nce_of_many(rows, own[:, None], T), plain, rtol=1e-12, atol=0)
    rows[:, 5:] += ABSENT
    with_absent = info_nce_of_many(rows, torch.tensor([[0, 6, 8]] * 6), T)
    torch.testing.assert_close(with_absent, info_nce(rows, own, T), rtol=1e-12, atol=0)


def test_more_neighbours_than_the_queue_holds_are_refused() -> None:
    with pytest.raises(WispError, match=r"^17 neighbours cannot be found in a queue of 16 images; use fewer"):
        small(neighbours=17)
    small(neighbours=16)


def test_an_image_with_fewer_positives_counts_as_much() -> None:
    rows = torch.tensor([[0.5, 0.2, -0.3], [0.1, 0.4, 0.6]], dtype=torch.float64)
    rows[1, 2] += ABSENT
    first = [minus_log_share(rows[0, place].item() / T, (rows[0] / T).tolist()) for place in (0, 1, 2)]
    second = [minus_log_share(rows[1, place].item() / T, (rows[1, :2] / T).tolist()) for place in (0, 1)]
    wanted = (np.mean(first) + np.mean(second)) / 2
    found = info_nce_of_many(rows, torch.tensor([[0, 1, 2], [0, 1, 2]]), T)
    assert found.item() == pytest.approx(wanted, rel=1e-12)


def test_the_settings_are_moco_v2s_and_as_many_neighbours_as_a_bag() -> None:
    config = Config()
    assert (config.neighbours, config.relation) == (5, 1.0)
    assert (config.temperature, config.momentum, config.splits) == (0.2, 0.99, 8)
    assert (config.queue, config.hidden, config.out) == (None, 2048, 128)
    assert vars(config.contrast()) == vars(moco_v2.Config())
    for size, plan in (("small", "mocov2_cifar"), ("large", "mocov2")):
        each = SETTINGS[size]
        assert (each.plan, each.optimizer, each.lr, each.weight_decay) == (plan, "sgd", 0.03, 1e-4)
        assert (each.epochs, each.batch_size, each.warmup_epochs) == (200, 256, 0)
