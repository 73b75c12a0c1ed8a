"""A network at another width."""

import copy

import pytest
import torch
from torch import Tensor, nn

from wisp.errors import WispError
from wisp.subnet.channels import ChannelGroups, trace
from wisp.subnet.groups import tensors_of
from wisp.subnet.resize import resized


class Net(nn.Module):
    """One layer of every kind that has sizes in its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 40, 3, bias=False)
        self.norm = nn.BatchNorm2d(40)
        self.depthwise = nn.Conv2d(40, 40, 3, groups=40)
        self.bare = nn.BatchNorm2d(40, affine=False)
        self.activation = nn.PReLU(40)
        self.point = nn.Conv2d(40, 64, 1)
        self.gamma = nn.BatchNorm2d(64)
        self.hidden = nn.Linear(64, 9)
        self.head = nn.Linear(9, 5)
        nn.init.kaiming_normal_(self.stem.weight, mode="fan_out")
        nn.init.kaiming_normal_(self.point.weight, mode="fan_out")
        nn.init.zeros_(self.gamma.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.bare(self.depthwise(self.norm(self.stem(x)))))
        return self.head(self.hidden(self.gamma(self.point(x)).mean((2, 3))).relu())


X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def network() -> Net:
    torch.manual_seed(0)
    return Net()


@pytest.fixture(scope="module")
def groups(network: Net) -> ChannelGroups:
    return trace(network, X)


@pytest.mark.parametrize(
    ("width", "sizes"), [(1.5, (60, 96, 14)), (1.0, (40, 64, 9)), (0.25, (10, 16, 2)), (0.01, (1, 1, 1))]
)
def test_sizes_and_attributes(network: Net, groups: ChannelGroups, width: float, sizes: tuple[int, int, int]) -> None:
    a, b, c = sizes
    result = resized(network, groups, width)
    assert (result.stem.in_channels, result.stem.out_channels, result.stem.groups) == (3, a, 1)
    assert (result.depthwise.in_channels, result.depthwise.out_channels, result.depthwise.groups) == (a, a, a)
    assert (result.point.in_channels, result.point.out_channels) == (a, b)
    assert (result.norm.num_features, result.bare.num_features, result.gamma.num_features) == (a, a, b)
    assert result.activation.num_parameters == a
    assert (result.hidden.in_features, result.hidden.out_features) == (b, c)
    assert (result.head.in_features, result.head.out_features) == (c, 5)
    assert groups.sizes_in(result) == {"stem": a, "point": b, "hidden": c}
    assert result(X).shape == (2, 5)
    assert resized(result, groups, 2.0).stem.out_channels == 2 * a


def test_constants_stay_and_the_rest_is_redrawn_to_scale(network: Net, groups: ChannelGroups) -> None:
    trained = copy.deepcopy(network)
    trained.norm.running_mean.fill_(3.0)
    trained.norm.num_batches_tracked.fill_(7)
    before = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    wide = resized(trained, groups, 4.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained.state_dict().items())
    assert torch.equal(wide.norm.weight, torch.ones(160))
    assert torch.equal(wide.gamma.weight, torch.zeros(256))
    assert torch.equal(wide.activation.weight, torch.full((160,), 0.25))
    assert torch.equal(wide.norm.running_mean, torch.zeros(160))
    assert wide.norm.num_batches_tracked == 0
    # kaiming fan-out at the new width, so twice narrower for four times the filters; a depthwise fan-out is its kernel.
    assert wide.stem.weight.std().item() == pytest.approx((2 / (160 * 9)) ** 0.5, rel=0.06)
    assert wide.point.weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.06)
    assert wide.depthwise.weight.std().item() == pytest.approx(trained.depthwise.weight.std().item(), rel=0.1)
    assert wide.point.bias.std().item() == pytest.approx(trained.point.bias.std().item(), rel=0.2)
    assert abs(wide.stem.weight.mean().item()) < 0.1 * wide.stem.weight.std().item()


def test_every_call_draws_new_weights_from_the_global_generator(network: Net, groups: ChannelGroups) -> None:
    torch.manual_seed(3)
    first, second = resized(network, groups, 1.0), resized(network, groups, 1.0)
    torch.manual_seed(3)
    again = resized(network, groups, 1.0)
    assert torch.equal(first.stem.weight, again.stem.weight)
    assert not torch.equal(first.stem.weight, second.stem.weight)
    assert not torch.equal(first.stem.weight, network.stem.weight)
    assert tensors_of(first).keys() == tensors_of(network).keys()


def test_memory_format_type_and_gradient_flags_stay(network: Net, groups: ChannelGroups) -> None:
    source = copy.deepcopy(network).double().to(memory_format=torch.channels_last)
    source.point.weight.requires_grad_(False)
    wide = resized(source, groups, 1.5)
    assert wide.stem.weight.is_contiguous(memory_format=torch.channels_last)
    assert not wide.stem.weight.is_contiguous()
    assert {parameter.dtype for parameter in wide.parameters()} == {torch.float64}
    assert [name for name, p in wide.named_parameters() if not p.requires_grad] == ["point.weight"]


def test_bad_widths_and_foreign_networks_are_refused(network: Net, groups: ChannelGroups) -> None:
    for width in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(WispError, match="width must be a positive number"):
            resized(network, groups, width)
    with pytest.raises(WispError, match="does not have the topology"):
        resized(nn.Linear(2, 2), groups, 1.5)
    crooked = copy.deepcopy(network)
    crooked.norm = nn.BatchNorm2d(41)
    with pytest.raises(WispError, match=r"norm.weight has 41 channels on axis 0, its group stem has 40"):
        resized(crooked, groups, 1.5)
