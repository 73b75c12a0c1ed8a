"""What a training costs: every step in its own phase, and the slices' share by the formula."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from small_methods import SIZE, small_method
from wisp.cost.count import _counter, count_forward, count_step, count_training
from wisp.data.views import View, ViewPlan
from wisp.methods.method import Method

BATCH = 8


@pytest.mark.parametrize("start", [0.0, 0.25, 0.3])
def test_steps_before_the_slimming_are_dense(start: float) -> None:
    method = small_method("sacl_xd", dense_warmup=start)
    dense, slimmed = (count_step(method, BATCH, SIZE, progress).flops for progress in (0.0, 0.99))
    cost = count_training(method, BATCH, SIZE, steps=10)
    warm = {0.0: 0, 0.25: 3, 0.3: 3}[start]  # step s trains at s / 10
    assert cost.flops == warm * dense + (10 - warm) * slimmed
    assert cost.step.flops == slimmed
    assert (dense == slimmed) == (start == 0.0)


def test_one_phase_costs_the_same_every_step() -> None:
    method = small_method("barlow_twins")
    cost = count_training(method, BATCH, SIZE, steps=7)
    assert cost.flops == 7 * cost.step.flops


def test_every_view_is_counted_at_its_own_side() -> None:
    """Convolutions over a quarter of the places cost a quarter."""
    method = small_method("supervised")
    whole = View()
    costs = [
        _encoder(method, sides) for sides in ((whole,), (replace(whole, side=0.5),), (whole, replace(whole, side=0.5)))
    ]
    assert costs[0] == 4 * costs[1] == BATCH * count_forward(method.encoders()["1x"], SIZE)
    assert costs[2] == costs[0] + costs[1]


def _encoder(method: Method, views: tuple[View, ...]) -> int:
    method.views = ViewPlan("counted", "test", views)
    return count_step(method, BATCH, SIZE).branches["encoder"]


def test_a_forward_pass_is_counted_by_hand() -> None:
    """ResNet-8 at 16 px: a multiply-add is two operations; norms and additions are not counted."""
    encoder = small_method("barlow_twins").encoders()["1x"]
    shapes = [(3, 16, 9, 256)]  # inputs, outputs, taps, places
    shapes += [(16, 16, 9, 256)] * 2
    shapes += [(16, 32, 9, 64), (32, 32, 9, 64), (16, 32, 1, 64)]
    shapes += [(32, 64, 9, 16), (64, 64, 9, 16), (32, 64, 1, 16)]
    assert count_forward(encoder, SIZE) == sum(2 * a * b * taps * places for a, b, taps, places in shapes)


@pytest.mark.parametrize("groups", [1, 4, 16])
def test_a_convolutions_backward_pass_costs_two_forward_passes(groups: int) -> None:
    convolution = nn.Conv2d(16, 16, 3, padding=1, groups=groups, bias=False).to("meta")
    x = torch.empty(2, 16, 8, 8, device="meta", requires_grad=True)
    with _counter() as counter:
        y = convolution(x).sum()
        forward = counter.get_total_flops()
        y.backward()
    assert forward == 2 * 2 * 16 * (16 // groups) * 9 * 64
    assert counter.get_total_flops() == 3 * forward
