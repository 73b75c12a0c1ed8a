"""Which channels a sub-network uses."""

import pytest
import torch
from torch import Tensor, nn

from wisp.errors import WispError
from wisp.subnet.channels import ChannelGroups, trace
from wisp.subnet.select import by_magnitude, prefix, random, rule


class Net(nn.Module):
    """A residual sum of two convolutions, a depthwise convolution and a norm: one group of six channels."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 6, 1)
        self.two = nn.Conv2d(6, 6, 1)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.norm = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        return self.head(self.norm(self.depthwise(x + self.two(x))).mean((2, 3)))


@pytest.fixture
def network() -> Net:
    torch.manual_seed(0)
    network = Net()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    return network


@pytest.fixture(scope="module")
def groups() -> ChannelGroups:
    return trace(Net(), torch.randn(2, 3, 4, 4))


@torch.no_grad()
def test_magnitude_is_the_sum_over_all_filters_of_the_group(network: Net, groups: ChannelGroups) -> None:
    network.one.weight[5, 2] = -4.0  # 4
    network.two.weight[1] = 0.5  # 6 * 0.5 = 3
    network.depthwise.weight[3] = -0.5  # 9 * 0.5 = 4.5
    network.one.weight[4, :] = 1.0  # 3 + 2 = 5
    network.two.weight[4, 0] = -2.0
    chosen = [by_magnitude(network, groups, {"one": k})["one"].tolist() for k in range(1, 7)]
    assert chosen == [[4], [3, 4], [3, 4, 5], [1, 3, 4, 5], [0, 1, 3, 4, 5], [0, 1, 2, 3, 4, 5]]


@torch.no_grad()
def test_inputs_norms_and_biases_do_not_count(network: Net, groups: ChannelGroups) -> None:
    network.two.weight[0, 5] = 1.0  # produces channel 0, reads channel 5
    network.head.weight[:, 5] = 100.0
    for parameter in (network.norm.weight, network.norm.bias, network.one.bias, network.depthwise.bias):
        parameter[5] = 100.0
    assert by_magnitude(network, groups, {"one": 1})["one"].tolist() == [0]


def test_ties_go_to_the_lowest_index(network: Net, groups: ChannelGroups) -> None:
    assert by_magnitude(network, groups, {"one": 4})["one"].tolist() == [0, 1, 2, 3]


def test_prefix_and_random(network: Net, groups: ChannelGroups) -> None:
    assert prefix(network, groups, {"one": 4})["one"].tolist() == [0, 1, 2, 3]
    seen = set()
    for seed in range(30):
        chosen = random(network, groups, {"one": 4}, torch.Generator().manual_seed(seed))["one"]
        assert torch.equal(chosen, random(network, groups, {"one": 4}, torch.Generator().manual_seed(seed))["one"])
        assert chosen.tolist() == sorted(set(chosen.tolist()))
        assert len(chosen) == 4
        seen.update(chosen.tolist())
    assert seen == set(range(6))


@pytest.mark.parametrize("name", ["prefix", "by_magnitude", "random"])
def test_every_rule_refuses_more_channels_than_the_host_has(name: str, network: Net, groups: ChannelGroups) -> None:
    with pytest.raises(WispError, match="cannot select 7 of the host's 6 channels"):
        rule(name)(network, groups, {"one": 7})


def test_unknown_rules_are_refused() -> None:
    with pytest.raises(WispError, match="did you mean 'by_magnitude'"):
        rule("magnitude")
