"""KD against cross-entropy and the divergence of softened outputs, written again in loops."""

from __future__ import annotations

import math

import pytest
import torch

from small_methods import fixed_batch, small_method
from wisp.errors import WispError
from wisp.methods import kd
from wisp.methods.kd import KD


def softmax(row: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize("temperature", [4.0, 1.5])
def test_the_loss_is_hintons(temperature: float) -> None:
    method = small_method("kd", temperature=temperature).double()
    assert isinstance(method, KD)
    batch = fixed_batch(method, dtype=torch.float64)
    assert batch.labels is not None
    with torch.no_grad():
        terms = method(batch, 0.5)
        found = {"cross_entropy": 0.0, "distill": 0.0}
        for view in batch.views:
            students = method.classifier(method.encoder(view)).tolist()
            [features] = method.teacher.looks([view])
            assert method.teacher.classifier is not None
            teachers = method.teacher.classifier(features).tolist()
            for label, s, t in zip(batch.labels.tolist(), students, teachers, strict=True):
                share = 1 / (len(batch.labels) * len(batch.views))
                found["cross_entropy"] -= 0.1 * share * math.log(softmax(s, 1.0)[label])
                wanted, given = softmax(t, temperature), softmax(s, temperature)
                gap = sum(p * math.log(p / q) for p, q in zip(wanted, given, strict=True))
                found["distill"] += 0.9 * share * temperature**2 * gap
    for name, value in found.items():
        # The losses are float32, whatever the network.
        assert float(terms[name]) == pytest.approx(value, rel=1e-5), name


def test_the_settings_are_repdistillers() -> None:
    config, small = kd.Config(), kd.SETTINGS["small"]
    assert (config.temperature, config.label_weight, config.distill_weight) == (4.0, 0.1, 0.9)
    assert (small.optimizer, small.lr, small.batch_size, small.weight_decay, small.epochs) == (
        "sgd",
        0.05,
        64,
        5e-4,
        240,
    )


def test_settings_that_cannot_be() -> None:
    for name, value in (("temperature", 0.0), ("distill_weight", -1.0), ("label_weight", -0.1)):
        with pytest.raises(WispError, match=f"{name} is"):
            kd.Config(**{name: value})
    kd.Config(label_weight=0.0)
