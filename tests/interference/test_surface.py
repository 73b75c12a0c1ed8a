"""Trajectory and error surface."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from wisp.evaluate.features import Features
from wisp.evaluate.knn import knn
from wisp.interference.surface import MARGIN, Trajectory, knn_error, surface_around, trajectory_of


def weights(count: int = 5) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "0.weight": torch.randn(3, 4, generator=generator),
            "0.bias": torch.randn(3, generator=generator),
            "1.weight": torch.randn(2, 3, generator=generator),
        }
        for _ in range(count)
    ]


def found(kept: list[dict[str, torch.Tensor]]) -> Trajectory:
    trajectory = trajectory_of(kept)
    assert trajectory is not None
    return trajectory


def test_a_trajectory_ends_at_the_origin_and_leaves_out_what_is_one_dimensional() -> None:
    kept = weights()
    trajectory = found(kept)
    assert trajectory.places.shape == (5, 2)
    assert trajectory.places[-1].tolist() == [0, 0]
    assert trajectory.plane.components.shape == (2, 12 + 6)
    moved = [(kept[0][name] - kept[-1][name]).flatten() for name in ("0.weight", "1.weight")]
    expected = trajectory.plane.components @ torch.cat(moved).double()
    assert trajectory.places[0].tolist() == pytest.approx(expected.tolist())
    assert trajectory.offset == pytest.approx(trajectory.places[:, 1].abs().max().item())


def test_two_copies_span_no_plane() -> None:
    assert trajectory_of(weights(2)) is None


def test_a_surface_is_the_error_at_the_shifted_weights() -> None:
    kept, network, seen = weights(), nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2, bias=False)), []
    trajectory, last = found(kept), kept[-1]
    network.load_state_dict(last)
    first, second = trajectory.plane.components.split([12, 6], dim=1)

    def error(encoder: nn.Module) -> float:
        """Where the weights stand along both components, as one number."""
        state = dict(encoder.named_parameters())
        assert torch.equal(state["0.bias"], last["0.bias"])
        moved = [(state[name].detach() - last[name]).flatten().double() for name in ("0.weight", "1.weight")]
        x, y = (first @ moved[0] + second @ moved[1]).tolist()
        return x + 10 * y

    surface = surface_around(
        trajectory, last, encoder=network, error=error, points=5, progress=lambda done, of: seen.append((done, of))
    )
    for y, row in zip(surface.y, surface.error, strict=True):
        assert row == pytest.approx([x + 10 * y for x in surface.x], abs=1e-4)
    assert all(torch.equal(value, last[name]) for name, value in network.state_dict().items()), "it is as it was"
    assert seen == [(i + 1, 25) for i in range(25)]
    xs, ys = trajectory.places.T.tolist()
    assert (surface.x[0], surface.x[-1]) == pytest.approx(
        (min(xs) - MARGIN * (max(xs) - min(xs)), max(xs) + MARGIN * (max(xs) - min(xs)))
    )
    assert surface.y[0] < min(ys)
    assert surface.y[-1] > max(ys)


def test_a_surface_is_made_where_the_encoder_is() -> None:
    kept = weights()
    network = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2, bias=False)).to("meta")
    last = {name: tensor.to("meta") for name, tensor in kept[-1].items()}
    surface = surface_around(found(kept), last, encoder=network, error=lambda encoder: 7.0, points=3)
    assert surface.error == [[7.0] * 3] * 3


def test_the_error_normalises_by_the_batch_and_leaves_the_encoder_alone() -> None:
    encoder = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Dropout(0.5)).eval()
    nn.init.constant_(encoder[1].running_var, 1e6)  # running statistics of other weights
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    generator = torch.Generator().manual_seed(1)
    known, asked = (torch.randn(size, 3, 6, 6, generator=generator) for size in (60, 30))
    labels, asked_labels = torch.arange(60) % 3, torch.arange(30) % 3
    error = knn_error(encoder, known, labels, asked, asked_labels)
    assert not any(module.training for module in encoder.modules())
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    encoder[1].train()
    with torch.no_grad():
        features = Features(encoder(known), labels, encoder(asked), asked_labels)
    assert error == 100 - knn(features, ks=(20,))[20]


def test_weights_that_give_no_number_are_an_error_of_a_hundred() -> None:
    encoder = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten())
    nn.init.constant_(encoder[0].weight, float("inf"))
    images, labels = torch.randn(60, 3, 4, 4), torch.arange(60) % 2
    assert knn_error(encoder, images, labels, images, labels) == 100.0
