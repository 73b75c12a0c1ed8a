"""One test per axis structure: where a group's channels lie on an axis, and that host, selection and export follow."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from wisp.errors import WispError
from wisp.subnet.channels import ChannelGroups, trace
from wisp.subnet.groups import Attribute, Layout, Segment
from wisp.subnet.resize import resized
from wisp.subnet.select import by_magnitude
from wisp.subnet.subnet import Subnet

X = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def check(network: nn.Module, width: float = 2.0, x: Tensor = X) -> ChannelGroups:
    """Trace; the sub-network, its export and the gradient's support in a host `width` times as wide."""
    torch.manual_seed(0)
    groups = trace(network, x)
    host = resized(network, groups, width)
    subnet = Subnet(network, host, groups, select="random")
    output = subnet(x, subnet.gather(host))
    output.square().mean().backward()
    assert torch.equal(subnet.export(host).train()(x), output)
    assert torch.equal(subnet.export(host)(x), subnet.eval()(x, subnet.gather(host)))
    for name, parameter in host.named_parameters():
        expected = parameter.detach()
        for dim in groups.by_tensor.get(name, {}):
            expected = expected.index_select(dim, subnet.maps.positions(name, dim))
        assert torch.equal(subnet.export(host).get_parameter(name), expected), name
        assert int((parameter.grad != 0).sum()) <= expected.numel(), name
    return groups


class Attention(nn.Module):
    """Patches, tokens with a position, fused attention with three heads of four, LayerNorm, layer scale."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 16) * 1e-6)
        self.position = nn.Parameter(torch.randn(1, 5, 16) * 0.02)
        self.norm = nn.LayerNorm(16)
        self.num_heads, self.head_dim, self.attn_dim = 3, 4, 12
        self.qkv, self.proj = nn.Linear(16, 36), nn.Linear(12, 16)
        self.scale = nn.Parameter(torch.full((16,), 1e-5))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
        b, n, _ = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        y = ((q @ k.transpose(-2, -1)).softmax(-1) @ v).transpose(1, 2).reshape(b, n, self.attn_dim)
        return self.head((x + self.scale * self.proj(y))[:, 0])


def test_heads_are_blocks_of_a_fused_axis() -> None:
    network = Attention()
    groups = check(network)
    assert groups.sizes == {"patches": 16, "qkv": 3}
    assert groups.by_tensor["qkv.weight"] == {0: (Segment("qkv", 4),) * 3, 1: (Segment("patches"),)}
    assert groups.by_tensor["proj.weight"] == {0: (Segment("patches"),), 1: (Segment("qkv", 4),)}
    for name, dim in (("token", 2), ("position", 2), ("norm.weight", 0), ("scale", 0)):
        assert groups.by_tensor[name] == {dim: (Segment("patches"),)}
    assert {a.name: a.layout for a in groups.attributes} == {
        "num_heads": (Segment("qkv"),),
        "attn_dim": (Segment("qkv", 4),),
    }
    wide = resized(network, groups, 5 / 3)
    assert (wide.num_heads, wide.head_dim, wide.attn_dim, wide.norm.normalized_shape) == (5, 4, 20, (27,))
    check(network, 1.3333)


def test_no_width_may_round_a_number_of_heads() -> None:
    groups = trace(Attention(), X)
    with pytest.raises(WispError, match=r"width 1.5 gives no whole number .* \(3 at .* do are 1.333 and 1.667$"):
        resized(Attention(), groups, 1.5)
    with pytest.raises(WispError, match=r"nearest widths that do are 0.3333$"):
        resized(Attention(), groups, 0.1)
    assert resized(Attention(), groups, 0.333).num_heads == 1


@torch.no_grad()
def test_the_score_of_a_head_is_that_of_all_its_filters() -> None:
    network = Attention()
    groups = trace(network, X)
    network.qkv.weight.zero_()
    network.proj.weight[:, 8:] = 100.0  # reads head 2
    network.qkv.weight[3] = 1.0  # a query of head 0: 16
    network.qkv.weight[12 + 5] = 1.0  # a key and a value of head 1: 32
    network.qkv.weight[24 + 6] = -1.0
    chosen = [by_magnitude(network, groups, {"patches": 16, "qkv": k})["qkv"].tolist() for k in (1, 2)]
    assert chosen == [[1], [0, 1]]


def test_reselection_moves_the_blocks_in_place() -> None:
    network = Attention()
    groups = trace(network, X)
    host = resized(network, groups, 2.0)
    subnet = Subnet(network, host, groups, select="by_magnitude")
    before = subnet.maps.positions("qkv.weight", 0)
    with torch.no_grad():
        host.qkv.weight[:12] *= 100.0
        host.qkv.weight[12:24] *= 1e-3
        subnet.reselect(host)
    assert subnet.maps.positions("qkv.weight", 0) is before
    assert before.tolist() == [*range(12), *range(24, 36), *range(48, 60)]
    other = Subnet(network, host, groups, select="prefix")
    other.load_state_dict(subnet.state_dict())
    assert torch.equal(other(X, other.gather(host)), subnet(X, subnet.gather(host)))


class Pipe(nn.Module):
    """A convolution, a function, a second convolution, pooled."""

    def __init__(self, function: Callable[[Tensor], Tensor], inputs: int) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.function = function
        self.second = nn.Conv2d(inputs, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.function(self.norm(self.first(x)))).mean((2, 3))


S = Segment


@pytest.mark.parametrize(
    ("function", "inputs", "first", "second"),
    [
        (lambda x: torch.cat([x, x.relu()], 1), 16, (S("first"),), (S("first"), S("first"))),
        (lambda x: torch.cat([x.new_ones(len(x), 2, 8, 8), x], 1), 10, (S("first"),), None),
        (lambda x: x.flatten(1)[:, :, None, None], 512, (S("first"),), (S("first", 64),)),
        (lambda x: x.chunk(2, 1)[0] * x.chunk(2, 1)[1].sigmoid(), 4, (S("first"), S("first")), (S("first"),)),
    ],
    ids=["concatenated", "with a constant", "flattened", "gated halves"],
)
def test_axes_of_several_segments_and_blocks(
    function: Callable[[Tensor], Tensor], inputs: int, first: Layout, second: Layout | None
) -> None:
    if second is None:
        with pytest.raises(WispError, match=r"^second: its input channels meet a constant"):
            check(Pipe(function, inputs))
        return
    groups = check(Pipe(function, inputs), 1.5)
    assert groups.by_tensor["first.weight"] == groups.by_tensor["norm.running_var"] == {0: first}
    assert groups.by_tensor["second.weight"] == {1: second}


class Ghost(nn.Module):
    """Channels of two layers and of the image behind each other, of which a count is kept; then a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.out_chs = 12
        self.plain = nn.Conv2d(3, 12, 1)
        self.last = nn.Linear(15, 5)

    def forward(self, x: Tensor) -> Tensor:
        one = self.one(x).relu()
        y = torch.cat([one, self.two(one)], 1)[:, : self.out_chs] + self.plain(x)
        return self.last(torch.cat([y, x], 1).mean((2, 3)))


def test_concatenation_is_offsets() -> None:
    groups = check(Ghost(), 1.5)
    both = (Segment("one"), Segment("one"))  # a depthwise convolution keeps the channels it reads
    assert groups.sizes == {"one": 6}
    assert groups.by_tensor["plain.weight"] == {0: both}
    assert groups.by_tensor["last.weight"] == {1: (*both, Segment(None, 3))}
    assert groups.attributes == (Attribute("two", "groups", (Segment("one"),)), Attribute("", "out_chs", both))
    assert resized(Ghost(), groups, 0.5).out_chs == 6


class Two(nn.Module):
    """Two independent layers, concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 6, 1), nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.cat([self.one(x), self.two(x)], 1).relu().mean((2, 3)))


def test_an_axis_of_two_groups() -> None:
    groups = check(Two(), 1.5)
    assert groups.sizes == {"one": 4, "two": 6}
    assert groups.by_tensor["last.weight"] == {1: (Segment("one"), Segment("two"))}


def test_a_grouped_convolution_keeps_its_group_width() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 12, 1), nn.BatchNorm2d(12), nn.Conv2d(12, 24, 3, groups=3), nn.Conv2d(24, 5, 6), nn.Flatten()
    )
    groups = check(network, 1.5)
    assert groups.sizes == {"0": 3}
    assert groups.by_tensor["1.running_mean"] == {0: (Segment("0", 4),)}
    assert groups.by_tensor["2.weight"] == {0: (Segment("0", 8),)}
    wide = resized(network, groups, 1.5)  # the number of groups is rounded, to four
    assert (wide[2].groups, wide[2].in_channels, wide[2].out_channels) == (4, 16, 32)
    assert wide[1].num_features == 16


def test_a_single_group_is_one_of_several_at_another_width() -> None:
    """Its number of groups says nothing of that; the trace does."""
    network = nn.Sequential(nn.Conv2d(3, 12, 1), nn.Conv2d(12, 24, 3, groups=3), nn.Conv2d(24, 5, 6), nn.Flatten())
    groups = trace(network, X)
    assert groups.attributes == (Attribute("1", "groups", (Segment("0"),)),)
    narrow = resized(network, groups, 0.3)
    assert (narrow[1].groups, narrow[1].in_channels, narrow[1].out_channels) == (1, 4, 8)
    again = resized(narrow, groups, 2.0)
    assert (again[1].groups, again[1].in_channels, again[1].out_channels) == (2, 8, 16)
    assert again(X).shape == (3, 5)
    for host in (network, again):
        subnet = Subnet(narrow, host, groups, select="prefix", norms="private")
        assert torch.equal(subnet.export(host)(X), subnet(X, subnet.gather(host)))


class Counted(Attention):
    """Attention that keeps its number of heads under another name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        del self.num_heads
        self.name = name
        setattr(self, name, 3)

    def __getattr__(self, name: str) -> object:
        return getattr(self, self.name) if name == "num_heads" else super().__getattr__(name)


@pytest.mark.parametrize("name", ["heads", "n_heads", "n_head", "nhead"])
def test_names_of_a_number_of_heads(name: str) -> None:
    network = Counted(name)
    groups = check(network)
    assert (Attribute("", name, (Segment("qkv"),))) in groups.attributes
    assert getattr(resized(network, groups, 5 / 3), name) == 5


class Normed(nn.Module):
    """Two layers with a norm of the last axis between them."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.patches, self.norm, self.last = nn.Conv2d(3, 6, 4, 4), norm, nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


@pytest.mark.parametrize(
    "norm",
    [
        nn.RMSNorm(6),
        nn.RMSNorm(6, elementwise_affine=False),
        nn.LayerNorm(6, elementwise_affine=False),
        nn.LayerNorm(6, bias=False),
    ],
    ids=["rms", "bare rms", "bare layer", "layer without bias"],
)
def test_norms_of_the_last_axis(norm: nn.Module) -> None:
    network = Normed(norm)
    groups = check(network, 1.5)
    assert groups.sizes == {"patches": 6}
    narrow = resized(network, groups, 0.5)
    assert narrow.norm.normalized_shape == (3,)
    assert narrow(X).shape == (3, 5)
    private = Subnet(narrow, network, groups, select="prefix", norms="private")
    own = [name for name in private.norms if name.startswith("norm__")]
    assert len(own) == len(list(norm.parameters()))


def masked(x: Tensor) -> Tensor:
    """Attention over places that some places may not see, as torch computes it where it cannot fuse it."""
    places = x.flatten(2).transpose(1, 2)
    weights = torch.ops.aten._safe_softmax(places @ places.transpose(1, 2), -1)
    return (weights @ places).transpose(1, 2).reshape(x.shape)


@pytest.mark.parametrize(
    ("function", "inputs", "second"),
    [
        (lambda x: torch.stack([x, x.relu()], 1).flatten(1, 2), 16, (S("first"), S("first"))),
        (lambda x: torch.stack([x, x.relu()], 2).flatten(1, 2), 16, (S("first", 2),)),
        (lambda x: torch.stack([x, x.relu()]).sum(0), 8, (S("first"),)),
        (lambda x: x.repeat(1, 2, 1, 1), 16, (S("first"), S("first"))),
        (lambda x: x + x.mean((2, 3), keepdim=True).repeat(1, 1, 8, 8), 8, (S("first"),)),
        (lambda x: x * x.mean(1, keepdim=True).repeat(1, x.shape[1], 1, 1), 8, (S("first"),)),
        (masked, 8, (S("first"),)),
    ],
    ids=["stacked before", "stacked behind", "summed", "tiled", "spread over places", "spread over channels", "masked"],
)
def test_stacks_repeats_and_safe_softmax(function: Callable[[Tensor], Tensor], inputs: int, second: Layout) -> None:
    groups = check(Pipe(function, inputs), 1.5)
    assert groups.by_tensor["second.weight"] == {1: second}


class Cached(nn.Module):
    """A bias table that is kept between passes in evaluation mode, as timm does by device."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 1), nn.Linear(6, 2)
        self.bias, self.kept = nn.Parameter(torch.randn(6)), {}

    def forward(self, x: Tensor) -> Tensor:
        bias = self.kept.setdefault("bias", self.bias * 2) if not self.training else self.bias * 2
        return self.last(self.first(x).mean((2, 3)) + bias)


@torch.no_grad()
def test_nothing_is_kept_from_other_weights() -> None:
    network = Cached().eval()
    network(X)
    groups = trace(network, X)
    host = resized(network, groups, 2.0)
    subnet = Subnet(network, host, groups, select="prefix").eval()
    first = subnet(X, subnet.gather(host))
    assert torch.equal(subnet.export(host)(X), first)
    host.bias.add_(1.0)
    second = subnet(X, subnet.gather(host))
    assert not torch.equal(first, second)
    assert torch.equal(subnet.export(host)(X), second)
    assert torch.equal(copy.deepcopy(subnet)(X, subnet.gather(host)), second)
