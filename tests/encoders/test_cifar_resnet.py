"""The shortcuts without parameters, against the network written down a second time, and what cannot be done with it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from wisp.encoders import stock
from wisp.encoders.cifar_resnet import ZeroPad
from wisp.encoders.tested import TESTED, UNSLICED
from wisp.listing import LISTS
from wisp.subnet.channels import UnsupportedStructure, trace

BLOCKS = {"resnet20_pad": 3, "resnet32_pad": 5, "resnet44_pad": 7, "resnet56_pad": 9}


def normed(x: Tensor, tensors: dict[str, Tensor], name: str) -> Tensor:
    """BatchNorm with its running statistics, by its formula."""
    scale = tensors[f"{name}.weight"] / (tensors[f"{name}.running_var"] + 1e-5).sqrt()
    shift = tensors[f"{name}.bias"] - tensors[f"{name}.running_mean"] * scale
    return x * scale[:, None, None] + shift[:, None, None]


def shortcut(x: Tensor, channels: int, stride: int) -> Tensor:
    """Pixel by pixel: the old channels in the middle, zeros on both sides."""
    images, old, height, width = x.shape
    out = x.new_zeros(images, channels, (height + stride - 1) // stride, (width + stride - 1) // stride)
    first = (channels - old) // 2
    for row in range(out.shape[2]):
        for column in range(out.shape[3]):
            out[:, first : first + old, row, column] = x[:, :, row * stride, column * stride]
    return out


def features(images: Tensor, tensors: dict[str, Tensor], blocks: int) -> Tensor:
    """The network of He et al. 2016, section 4.2, with option A, in terms of its tensors alone."""
    x = normed(nn.functional.conv2d(images, tensors["conv1.weight"], padding=1), tensors, "bn1").clamp(min=0)
    for stage, channels in ((1, 16), (2, 32), (3, 64)):
        for block in range(blocks):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = nn.functional.conv2d(x, tensors[f"{name}.conv1.weight"], stride=stride, padding=1)
            y = normed(y, tensors, f"{name}.bn1").clamp(min=0)
            y = normed(nn.functional.conv2d(y, tensors[f"{name}.conv2.weight"], padding=1), tensors, f"{name}.bn2")
            x = (y + shortcut(x, channels, stride)).clamp(min=0)
    return x.mean((2, 3))


@pytest.mark.parametrize("side", [16, 18])
@pytest.mark.parametrize("name", BLOCKS)
def test_it_is_the_network_of_the_paper(name: str, side: int) -> None:
    torch.manual_seed(0)
    encoder = stock.spec(name).build().double()
    for _ in range(2):
        encoder(torch.randn(4, 3, side, side).double())
    tensors = encoder.eval().state_dict()
    images = torch.randn(2, 3, side, side).double()
    with torch.no_grad():
        got, expected = encoder(images), features(images, tensors, BLOCKS[name])
    assert got.shape == (2, stock.OURS[name])
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "parameters"), [("resnet20_pad", 269_072), ("resnet56_pad", 852_368)])
def test_it_has_as_many_parameters_as_the_public_ones(name: str, parameters: int) -> None:
    """Theirs are 269,722 and 853,018, with a classifier of 650."""
    assert sum(p.numel() for p in stock.spec(name).build().parameters()) == parameters
    assert UNSLICED[name][0] == pytest.approx(parameters / 1e6, abs=0.005)


def test_an_odd_number_of_new_channels() -> None:
    out = ZeroPad(2, 5, 1)(torch.ones(1, 2, 1, 1))
    assert out.flatten().tolist() == [0, 1, 1, 0, 0]


@pytest.mark.parametrize("name", UNSLICED)
def test_it_is_not_sliced(name: str) -> None:
    """Not in a method, that is: its head lets the last channels change, and with them all that the shortcuts couple."""
    network = nn.Sequential(stock.spec(name).build(), nn.Linear(64, 8))
    with pytest.raises(UnsupportedStructure, match=r"^0\.layer2\.0\.conv2: its output channels meet a const") as found:
        trace(network, torch.zeros(1, 3, 16, 16), fixed=("1",))
    assert "\n" not in str(found.value)


def test_all_of_ours_are_listed() -> None:
    assert set(stock.OURS) <= set(TESTED | UNSLICED)
    assert not set(TESTED) & set(UNSLICED)
    lines = LISTS["encoders"]()
    assert all(any(line.startswith(f"{name} ") for line in lines) for name in stock.OURS)
