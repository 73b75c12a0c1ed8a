"""Trajectory and error surface."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from wisp.evaluate.features import Features
from wisp.evaluate.knn import knn
from wisp.interference.surface import MARGIN, knn_error, surface_around, trajectory_of


def weights(count: int = 5) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        {"weight": torch.randn(3, 4, generator=generator), "bias": torch.randn(3, generator=generator)}
        for _ in range(count)
    ]


def test_a_trajectory_ends_at_the_origin_and_leaves_out_what_is_one_dimensional() -> None:
    kept = weights()
    trajectory = trajectory_of(kept)
    assert trajectory.places.shape == (5, 2)
    assert trajectory.places[-1].tolist() == [0, 0]
    assert trajectory.plane.components.shape == (2, 12)
    first = (kept[0]["weight"] - kept[-1]["weight"]).flatten().double()
    assert trajectory.places[0].tolist() == pytest.approx((trajectory.plane.components @ first).tolist())
    assert trajectory.offset == pytest.approx(trajectory.places[:, 1].abs().max().item())


def test_a_surface_is_the_error_at_the_shifted_weights() -> None:
    kept, layer, seen = weights(), nn.Linear(4, 3), []
    trajectory, last = trajectory_of(kept), kept[-1]
    layer.load_state_dict(last)
    bias = layer.bias.detach().clone()

    def error(encoder: nn.Module) -> float:
        assert isinstance(encoder, nn.Linear)
        assert torch.equal(encoder.bias, bias)
        return float((encoder.weight.detach() - last["weight"]).square().sum())

    surface = surface_around(
        trajectory, last, encoder=layer, error=error, points=5, progress=lambda done, of: seen.append((done, of))
    )
    for y, row in zip(surface.y, surface.error, strict=True):
        assert row == pytest.approx([x * x + y * y for x in surface.x], rel=1e-4)  # the components are orthonormal
    assert torch.equal(layer.weight, last["weight"]), "the encoder is as it was"
    assert seen == [(i + 1, 25) for i in range(25)]
    xs, ys = trajectory.places.T.tolist()
    assert (surface.x[0], surface.x[-1]) == pytest.approx(
        (min(xs) - MARGIN * (max(xs) - min(xs)), max(xs) + MARGIN * (max(xs) - min(xs)))
    )
    assert surface.y[0] < min(ys)
    assert surface.y[-1] > max(ys)


def test_the_error_normalises_by_the_batch_and_leaves_the_encoder_alone() -> None:
    encoder = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Dropout(0.5)).eval()
    nn.init.constant_(encoder[1].running_var, 1e6)  # running statistics of other weights
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    generator = torch.Generator().manual_seed(1)
    known, asked = (torch.randn(size, 3, 6, 6, generator=generator) for size in (60, 30))
    labels, asked_labels = torch.arange(60) % 3, torch.arange(30) % 3
    found = knn_error(encoder, known, labels, asked, asked_labels)
    assert not any(module.training for module in encoder.modules())
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    encoder[1].train()
    with torch.no_grad():
        features = Features(encoder(known), labels, encoder(asked), asked_labels)
    assert found == 100 - knn(features, ks=(20,))[20]


def test_weights_that_give_no_number_are_an_error_of_a_hundred() -> None:
    encoder = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten())
    nn.init.constant_(encoder[0].weight, float("inf"))
    images, labels = torch.randn(60, 3, 4, 4), torch.arange(60) % 2
    assert knn_error(encoder, images, labels, images, labels) == 100.0
