"""DINO against Eq. 1-4 of its paper, written again in loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from references.contrast import minus_log_share, unit
from references.paper import Matrix, embed
from small_methods import fixed_batch, small_method, total
from wisp.methods.dino import DINO


def softmax(row: Matrix) -> Matrix:
    return np.exp(row) / np.exp(row).sum()


@pytest.mark.parametrize("head_norm", [False, True])
def test_the_loss_and_the_centre_are_the_papers(head_norm: bool) -> None:
    settings = {"hidden": 12, "out": 10, "prototypes": 6, "temperature": 0.2, "centre_momentum": 0.8}
    settings |= {"head_norm": head_norm}
    method = small_method("dino", **settings).double()
    assert isinstance(method, DINO)
    centre = np.zeros(6)
    for progress in (0.5, 0.75):  # after the warm-up: the teacher's temperature is 0.07
        batch = fixed_batch(method, 8, seed=int(4 * progress), dtype=torch.float64)
        said = [embed(method.network, view) for view in batch.views]
        taught = [embed(method.teacher.network, view) for view in batch.views[:2]]
        losses = []
        for i, teacher in enumerate(taught):
            for v, student in enumerate(said):
                for n in range(8 if v != i else 0):
                    target, scores = softmax((teacher[n] - centre) / 0.07), student[n] / 0.2
                    cross = sum(t * minus_log_share(s, scores) for t, s in zip(target, scores, strict=True))
                    losses.append(cross + sum(t * np.log(t) for t in target))
        assert total(method(batch, progress)).item() == pytest.approx(np.mean(losses), rel=1e-9)
        method.after_step(progress)
        centre = 0.8 * centre + 0.2 * np.concatenate(taught).mean(axis=0)
        assert method.centre.numpy() == pytest.approx(centre, rel=1e-9)


def test_scores_are_cosines_with_the_prototypes() -> None:
    method = small_method("dino", hidden=12, out=10, prototypes=6).double()
    assert isinstance(method, DINO)
    view = fixed_batch(method, 4, dtype=torch.float64).views[0]
    head = method.network[1]
    bottleneck = unit(embed(torch.nn.Sequential(method.network[0], head.layers), view))
    assert embed(method.network, view) == pytest.approx(bottleneck @ unit(head.prototypes.detach().numpy()).T, rel=1e-9)


def test_the_teacher_warms_up() -> None:
    method = small_method("dino")
    assert isinstance(method, DINO)
    found = [method.teacher_temperature(progress) for progress in (0.0, 0.05, 0.1, 1.0)]
    assert found == pytest.approx([0.04, 0.055, 0.07, 0.07])


def test_batch_norm_is_before_each_activation_or_nowhere() -> None:
    kinds = {}
    for head_norm in (False, True):
        method = small_method("dino", head_norm=head_norm)
        assert isinstance(method, DINO)
        kinds[head_norm] = [type(layer).__name__ for layer in method.network[1].layers]
    assert kinds[False] == ["Linear", "GELU", "Linear", "GELU", "Linear"]
    assert kinds[True] == ["Linear", "BatchNorm1d", "GELU", "Linear", "BatchNorm1d", "GELU", "Linear"]


def test_the_first_weights_are_the_released_codes() -> None:
    method = small_method("dino", hidden=64, out=32, prototypes=256, head_norm=False)
    assert isinstance(method, DINO)
    head = method.network[1]
    for layer in head.layers[::2]:
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
        assert layer.bias.count_nonzero() == 0
    assert head.prototypes.abs().max() <= 32**-0.5  # as a linear layer begins
    assert head.prototypes.std().item() == pytest.approx(32**-0.5 / 3**0.5, rel=0.05)


def test_with_batch_norm_the_first_bottlenecks_differ() -> None:
    """Features of an untrained convolutional encoder point one way; with nothing to tell apart nothing is learnt."""
    found = {}
    for head_norm in (False, True):
        method = small_method("dino", head_norm=head_norm)
        assert isinstance(method, DINO)
        head = torch.nn.Sequential(method.network[0], method.network[1].layers)
        z = unit(embed(head, fixed_batch(method, 32).views[0]))
        found[head_norm] = (np.sum(z @ z.T) - 32) / (32 * 31)
    assert found[True] < 0.4 < 0.8 < found[False]
