"""What a trace finds, and what it refuses."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wisp.encoders.cifar_resnet import resnet8
from wisp.errors import WispError
from wisp.subnet.channels import Axis, ChannelGroups, Group, UnsupportedStructure, trace
from wisp.subnet.check import disagreement

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    """Expand, depthwise, squeeze-excite with a learnable scale, project, residual."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.expand = nn.Conv2d(8, 16, 1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.reduce = nn.Conv2d(16, 4, 1)
        self.restore = nn.Conv2d(4, 16, 1)
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, 16).view(1, 16, 1, 1))
        self.gain = nn.Parameter(torch.ones(1))
        self.activation = nn.PReLU(16)
        self.project = nn.Conv2d(16, 8, 1, bias=False)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.activation(self.norm(self.depthwise(self.expand(x)))) * self.scale * self.gain
        y = y * self.restore(F.relu(self.reduce(y.mean((2, 3), keepdim=True)))).sigmoid()
        return self.head((x + self.project(y)).mean((2, 3)))


def axes(*pairs: str) -> set[Axis]:
    return {Axis(pair[:-2], int(pair[-1])) for pair in pairs}


def test_groups_of_a_block() -> None:
    groups = {group.name: group for group in trace(Block(), X)}
    assert {name: group.size for name, group in groups.items()} == {"stem": 8, "expand": 16, "reduce": 4}
    assert set(groups["stem"].axes) == axes("stem.weight 0", "expand.weight 1", "project.weight 0", "head.weight 1")
    assert set(groups["reduce"].axes) == axes("reduce.weight 0", "reduce.bias 0", "restore.weight 1")
    assert set(groups["expand"].axes) == axes(
        *("expand.weight 0", "expand.bias 0", "depthwise.weight 0", "activation.weight 0", "scale 1"),
        *("norm.weight 0", "norm.bias 0", "norm.running_mean 0", "norm.running_var 0"),
        *("reduce.weight 1", "restore.weight 0", "restore.bias 0", "project.weight 1"),
    )


def test_the_output_of_the_traced_network_is_fixed() -> None:
    groups = trace(resnet8(), X)
    assert set(groups.sizes.values()) == {16, 32, 64}
    assert "layer3.0.conv2.weight" in groups.by_tensor
    assert groups.by_tensor["layer3.0.conv2.weight"].keys() == {1}
    assert groups.by_tensor["conv1.weight"].keys() == {0}


def test_a_fixed_prefix_keeps_its_output_axes_but_not_its_input() -> None:
    network = nn.Sequential(
        resnet8(), nn.Sequential(nn.BatchNorm1d(64), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 5))
    )
    groups = trace(network, X, fixed=("1",))
    assert groups.by_tensor["1.1.weight"].keys() == {1}
    assert groups.by_tensor["1.0.running_var"] == {0: groups.by_tensor["1.1.weight"][1]}
    assert not {"1.1.bias", "1.3.weight"} & groups.by_tensor.keys()
    assert trace(network, X).by_tensor["1.3.weight"].keys() == {1}
    with pytest.raises(WispError, match="names no module"):
        trace(network, X, fixed=("projector",))


def test_tracing_changes_neither_the_network_nor_the_generator() -> None:
    network = resnet8().requires_grad_(False).train()
    before = copy.deepcopy(network.state_dict())
    state = torch.get_rng_state()
    first, second = trace(network, X), trace(network, X)
    assert first == second
    assert torch.equal(state, torch.get_rng_state())
    assert network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("shvit_s1", r"0.stages.1.blocks.0.mixer.m: does not run at 1.5 times the width"),
        ("xcit_nano_12_p16_224", r"0.pos_embed.token_projection: its input channels meet a constant"),
        ("resnest14d", r"0.layer1.0.conv2.*: does not run at 2 times the width"),
    ],
)
def test_unsupported_encoders_are_refused_by_layer(name: str, layer: str) -> None:
    encoder = timm.create_model(name, num_classes=0)
    with pytest.raises(UnsupportedStructure, match=f"^{layer}") as caught:
        trace(nn.Sequential(encoder, nn.Linear(encoder.head_hidden_size, 8)), torch.randn(2, 3, 64, 64), fixed=("1",))
    assert "\n" not in str(caught.value)


class Pipe(nn.Module):
    """conv1 -> an operation -> conv2, pooled."""

    def __init__(self, operation: nn.Module, inputs: int = 8) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.operation = operation
        self.conv2 = nn.Conv2d(inputs, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.operation(self.conv1(x))).mean((2, 3))


class Do(nn.Module):
    """A function as a module."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class ZeroPadBlock(nn.Module):
    """A CIFAR block with the parameter-free shortcut (He et al. 2016, option A)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 16, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(16)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4)))


class Attention(nn.Module):
    """torch's own attention over the places of a map."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        places = x.flatten(2).transpose(1, 2)
        return self.attention(places, places, places)[0].transpose(1, 2).reshape(x.shape)


class Bare(nn.Module):
    """A weight of the network's own that nothing else has to do with."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.table = nn.Conv2d(3, 4, 1), nn.Parameter(torch.randn(7, 9))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean((2, 3)) * self.table.mean()


def shuffle(x: Tensor) -> Tensor:
    return x.view(x.shape[0], 2, x.shape[1] // 2, *x.shape[2:]).transpose(1, 2).reshape(x.shape)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Pipe(ZeroPadBlock(), 16), "operation.conv: its output channels meet a constant"),
        (Pipe(Do(shuffle)), "conv1: its channels cannot be reordered"),
        (Pipe(Do(lambda x: x.roll(1, 1))), "conv1: its output channels meet a constant, or an operation that reads"),
        (Pipe(Do(lambda x: x * torch.linspace(0, 1, 8, dtype=x.dtype).view(8, 1, 1))), "conv1: its output channels"),
        (Pipe(Do(lambda x: torch.cat([x[:, 4:], x[:, :4]], 1))), "conv2: its channels are those of conv1 in another"),
        (Pipe(Do(lambda x: x[:, 2:6]), 4), "conv1: its channels are those of conv1 in another order, or a part"),
        (Pipe(Do(lambda x: x[:, :4]), 4), "conv2: does not run at 1.5 times the width"),
        (Pipe(Do(lambda x: x.view(-1, 8, 16, 16))), "conv2: does not run at 1.5 times the width"),
        (Pipe(Do(lambda x: x.cumsum(1))), r"operation: Do is not supported \(cumsum\)"),
        (Pipe(nn.PixelShuffle(2), 2), r"operation: PixelShuffle is not supported \(pixel_shuffle\)"),
        (Pipe(nn.GroupNorm(2, 8)), "operation: GroupNorm is not supported with 2 groups"),
        (
            Pipe(Attention()),
            "operation.attention: MultiheadAttention keeps queries, keys and values in one weight",
        ),
        (Bare(), "the network itself: its table could not be coupled to any layer's channels"),
        (Pipe(nn.ConvTranspose2d(8, 8, 3)), "operation: ConvTranspose2d is not supported"),
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten()), "Sequential: no layer has channels"),
        (nn.Sequential(nn.Linear(4, 8), nn.Flatten()), "Sequential: cannot be traced"),
    ],
    ids=lambda value: None if isinstance(value, str) else "",
)
def test_operations_that_read_positions_are_refused(network: nn.Module, reason: str) -> None:
    with pytest.raises(UnsupportedStructure, match=f"^{reason}"):
        trace(network, X)


def test_shared_weights_are_refused() -> None:
    network = Pipe(nn.Conv2d(8, 8, 1))
    network.operation = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1))
    network.operation[1].weight = network.operation[0].weight
    with pytest.raises(UnsupportedStructure, match=r"^operation.1.weight: is one tensor with operation.0.weight"):
        trace(network, X)


def test_the_proof_finds_a_missing_a_surplus_and_a_wrong_axis() -> None:
    network = Pipe(nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1))).eval()
    groups = trace(network, X)
    first, second = groups
    assert disagreement(network, groups, X) is None
    for axis in first.axes:
        lacking = Group(first.name, first.size, tuple(other for other in first.axes if other != axis))
        assert disagreement(network, ChannelGroups((lacking, second)), X) is not None, axis
    surplus = Group(first.name, first.size, (*first.axes, Axis("operation.2.weight", 0)))
    crossed = Group(first.name, first.size, tuple(Axis(a.tensor, 0) for a in first.axes))
    for wrong in (surplus, crossed):
        with pytest.raises(WispError, match=r"^operation.2.weight: axis 0 is in two groups"):
            disagreement(network, ChannelGroups((wrong, second)), X)
