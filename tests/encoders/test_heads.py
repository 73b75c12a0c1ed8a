"""Heads out of their tensors: the layers by shape and place, and what cannot be one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wisp.encoders.heads import mlp, read_mlp
from wisp.errors import WispError


def trained(head: nn.Sequential, width: int) -> nn.Sequential:
    """Scales, shifts and running statistics that no constructor gives."""
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        for _ in range(3):
            head(2 * torch.randn(8, width) + 1)
    return head.eval()


@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU])
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("last", ["linear", "biased", "plain_norm"])
@pytest.mark.parametrize("widths", [[6, 5], [6, 7, 5], [6, 7, 8, 5]])
def test_a_head_comes_back(widths: list[int], last: Any, norm: bool, activation: type[nn.Module]) -> None:
    torch.manual_seed(0)
    head = trained(mlp(widths, norm=norm, last=last, activation=activation), 6)
    before = torch.get_rng_state()
    again = read_mlp(head.state_dict(), activation)
    assert torch.equal(torch.get_rng_state(), before)
    assert again.training
    assert [type(layer) for layer in again] == [type(layer) for layer in head]
    features = torch.randn(9, 6)
    with torch.no_grad():
        assert torch.equal(again.eval()(features), head(features))


def test_it_owns_its_tensors() -> None:
    tensors = mlp([4, 3]).state_dict()
    again = read_mlp(tensors)
    tensors["0.weight"].zero_()
    assert bool(again[0].weight.any())


def test_counts_of_batches_may_be_absent() -> None:
    tensors = {name: t for name, t in mlp([4, 3, 2]).state_dict().items() if not name.endswith("num_batches_tracked")}
    assert int(read_mlp(tensors)[1].num_batches_tracked) == 0


def tensors(**shapes: list[int]) -> dict[str, Tensor]:
    """Zeros by name: `_0_weight=[2, 3]`."""
    return {name[1:].replace("_", ".", 1): torch.zeros(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ({}, "without tensors"),
        ({"weight": torch.zeros(2, 3)}, r"^weight is no tensor of a projection head; its layers are called 0, 1"),
        ({"norm.weight": torch.zeros(2)}, r"^norm\.weight is no tensor"),
        ({"0": torch.zeros(2)}, "^0 is no tensor"),
        (tensors(_0_weight=[4, 3], _2_weight=[2, 5]), "layer 2 takes 5 values, not 4"),
        (
            tensors(_0_weight=[4, 3], _1_running_mean=[5], _1_running_var=[5]),
            "layer 1 takes 5 values, not 4",
        ),
        (tensors(_0_weight=[4, 3], _3_weight=[2, 4]), "what stands before its layer 3 is unknown"),
        (tensors(_1_weight=[4, 3]), "what stands before its layer 1 is unknown"),
        (
            tensors(_0_weight=[4, 3], _1_weight=[4], _1_bias=[4]),
            r"layer 1 \(weight \[4\], bias \[4\]\) is neither a linear layer nor BatchNorm",
        ),
        (tensors(_0_weight=[4, 3, 1, 1]), r"layer 0 \(weight \[4, 3, 1, 1\]\) is neither"),
        (tensors(_0_bias=[4]), r"layer 0 \(bias \[4\]\) is neither"),
        (tensors(_0_weight=[4, 3], _0_bias=[3]), r"0\.bias is \[3\], not \[4\]"),
        (tensors(_0_weight=[4, 3], _0_scale=[3]), r"0\.scale is unexpected"),
        (
            tensors(_0_weight=[4, 3], _1_weight=[4], _1_running_mean=[4], _1_running_var=[4]),
            r"cannot be rebuilt: 1\.bias is missing$",
        ),
    ],
)
def test_what_is_no_head_is_one_line(found: dict[str, Tensor], why: str) -> None:
    with pytest.raises(WispError, match=why) as error:
        read_mlp(found)
    assert "\n" not in str(error.value)
