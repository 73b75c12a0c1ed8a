"""The slimmable network against the sum of its widths' cross-entropies, written again in loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from references.paper import embed
from small_methods import fixed_batch, scramble, small_method
from wisp.methods.slimmable import Slimmable

WIDTHS = (1.0, 0.5, 0.25)


def scrambled() -> Slimmable:
    method = small_method("slimmable", widths=WIDTHS).double()
    assert isinstance(method, Slimmable)
    scramble(method.narrow)
    return method


def networks(method: Slimmable) -> list[nn.Module]:
    """Encoder and classifier at every width, each standing alone."""
    return [method.network, *(subnet.export(method.network) for subnet in method.narrow.narrow)]


def test_the_loss_is_the_unweighted_sum_of_cross_entropies() -> None:
    method = scrambled()
    batch = fixed_batch(method, 8, dtype=torch.float64)
    assert batch.labels is not None
    by_width = []
    for network in networks(method):
        losses = []
        for view in batch.views:
            for row, label in zip(embed(network, view), batch.labels.tolist(), strict=True):
                losses.append(math.log(sum(math.exp(value) for value in row)) - row[label])
        by_width.append(sum(losses) / len(losses))
    terms = method(batch, 0.5)
    assert terms["cross_entropy"].item() == pytest.approx(by_width[0], rel=1e-6)  # in float32, as every loss
    assert terms["narrow"].item() == pytest.approx(sum(by_width[1:]), rel=1e-6)


def test_the_classifier_is_one_layer_whose_first_columns_a_narrow_width_reads() -> None:
    method = scrambled()
    full, half, quarter = (network[1] for network in networks(method))
    assert torch.equal(half.weight, full.weight[:, : full.in_features // 2])
    assert torch.equal(quarter.weight, full.weight[:, : full.in_features // 4])
    assert torch.equal(half.bias, full.bias)


def test_one_width_is_the_supervised_row() -> None:
    alone, row = small_method("slimmable", widths=(1.0,)), small_method("supervised")
    alone.load_state_dict(
        {
            key.replace("encoder.", "network.0.").replace("classifier.", "network.1."): value
            for key, value in row.state_dict().items()
        }
    )
    batch = fixed_batch(row)
    assert alone(batch, 0.5)["cross_entropy"].item() == row(batch, 0.5)["cross_entropy"].item()
    assert list(alone(batch, 0.5)) == ["cross_entropy"]


def test_a_width_is_an_encoder_and_its_classifier() -> None:
    method = scrambled().eval()
    encoders, classifiers = method.encoders(), method.classifiers()
    assert list(encoders) == list(classifiers)
    images = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    for whole, width in zip(networks(method), encoders, strict=True):
        assert torch.equal(classifiers[width](encoders[width].eval()(images)), whole.eval()(images))


def test_an_encoder_comes_without_its_classifier() -> None:
    encoders = scrambled().float().encoders()
    assert list(encoders) == ["1.0", "0.5", "0.25"]
    assert not any(isinstance(module, nn.Linear) for each in encoders.values() for module in each.modules())
