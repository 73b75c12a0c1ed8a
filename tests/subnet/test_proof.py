"""What the trace accepts, refuses, and says, at the edges of its numerical proof."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
from torch import Tensor, nn

from wisp.subnet.channels import UnsupportedStructure, trace
from wisp.subnet.resize import resized
from wisp.subnet.subnet import Subnet

IMAGE = torch.zeros(2, 3, 8, 8)


class Between(nn.Module):
    """Two convolutions with something between them."""

    def __init__(self, function: Callable[[Tensor], Tensor], channels: int = 8) -> None:
        super().__init__()
        self.conv1, self.norm = nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.conv2, self.function = nn.Conv2d(channels, 4, 1), function

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.function(self.norm(self.conv1(x)))).mean((2, 3))


def picky(x: Tensor) -> Tensor:
    if x.shape[1] != 8:
        raise AssertionError
    return x


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (picky, r"does not run at 1\.5 times the width \(AssertionError\)"),
        (lambda x: x * [0.0] * 9 if x.shape[1] > 8 else x, r"does not run at 1\.5 times"),
        (lambda x: torch.einsum("bchw,wv->bchv", x, torch.ones(8, 8)), "does not run in float64"),
    ],
)
def test_whatever_a_network_raises_is_one_line(function: Callable[[Tensor], Tensor], said: str) -> None:
    with pytest.raises(UnsupportedStructure, match=said) as caught:
        trace(Between(function).eval(), IMAGE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("channels", [2, 3, 8])
def test_few_channels_are_reordered_too(channels: int) -> None:
    """A slice leaves no mark: only the proof sees that the first channel is special, if it moves it."""
    special = Between(lambda x: torch.cat([x[:, :1] * 2, x[:, 1:].tanh()], 1), channels)
    with pytest.raises(UnsupportedStructure):
        trace(special.eval(), IMAGE)


@pytest.mark.parametrize(
    "function",
    [lambda x: x * x.max(1, keepdim=True)[0], lambda x: torch.max(x, 2 * x), lambda x: x * x.amin(1)[:, None]],
)
def test_an_extreme_over_channels_leaves_them_free(function: Callable[[Tensor], Tensor]) -> None:
    network = Between(function).eval()
    groups = trace(network, IMAGE)
    assert groups.sizes["conv1"] == 8
    assert resized(network, groups, 0.5).conv1.weight.shape[0] == 4


class Keeps(nn.Module):
    """Keeps what it has computed from a weight, under a name of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.scale = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1), nn.Parameter(torch.ones(1))
        self._kept: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        scale = self.scale.exp() if self.training else self._kept.setdefault("scale", self.scale.exp())
        return self.conv2(self.conv1(x) * scale).mean((2, 3))


def test_what_a_module_keeps_does_not_outlive_its_weights() -> None:
    host = Keeps().eval()
    groups = trace(host, IMAGE)
    subnet = Subnet(resized(host, groups, 0.5), host, groups, select="prefix").eval()
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        subnet(x, subnet.gather(host))
        host.scale.fill_(2.0)
        assert torch.equal(subnet(x, subnet.gather(host)), subnet.export(host)(x))


def test_convnext_at_more_than_one_pixel() -> None:
    """Its last map is one pixel at 32 px, which pooling treats in another way."""
    host = timm.create_model("convnext_atto", num_classes=0).eval()
    groups = trace(host, torch.zeros(2, 3, 64, 64))
    subnet = Subnet(resized(host, groups, 0.5), host, groups, select="prefix", norms="private").eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(subnet(x, subnet.gather(host)), subnet.export(host)(x))


def test_a_width_near_a_whole_number_of_heads_is_that_number() -> None:
    network = nn.Sequential(
        timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32, depth=1), nn.Linear(192, 8)
    )
    groups = trace(network.eval(), torch.zeros(2, 3, 32, 32), fixed=("1",))
    narrow = resized(network, groups, 0.667)
    assert narrow[0].cls_token.shape[-1] == 128
    assert narrow[0].blocks[0].mlp.fc1.weight.shape == (512, 128)
