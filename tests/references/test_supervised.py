"""The supervised reference row against cross-entropy, written again in loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from references.paper import embed
from small_methods import CLASSES, fixed_batch, small_method, total
from wisp.methods.supervised import Supervised


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_cross_entropy(smoothing: float) -> None:
    method = small_method("supervised", label_smoothing=smoothing).double()
    assert isinstance(method, Supervised)
    batch = fixed_batch(method, 8, dtype=torch.float64)
    assert batch.labels is not None
    losses = []
    for view in batch.views:
        logits = embed(nn.Sequential(method.encoder, method.classifier), view)
        for row, label in zip(logits, batch.labels.tolist(), strict=True):
            normaliser = math.log(sum(math.exp(value) for value in row))
            shares = [smoothing / CLASSES + (1 - smoothing) * (c == label) for c in range(CLASSES)]
            losses.append(sum(share * (normaliser - value) for share, value in zip(shares, row, strict=True)))
    assert total(method(batch, 0.5)).item() == pytest.approx(
        sum(losses) / len(losses), rel=1e-6
    )  # the method computes its loss in float32, whatever the weights are


def test_the_classifier_is_not_exported() -> None:
    method = small_method("supervised")
    encoder = method.encoders()["1x"].eval()
    assert encoder(torch.zeros(2, 3, 16, 16)).shape == (2, 64)
    assert not any(isinstance(module, nn.Linear) for module in encoder.modules())
