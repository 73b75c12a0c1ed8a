"""The laws of a sub-network (docs: subnet), for every encoder that wisp promises to slice.

A case is one encoder with its projector, traced as one network; the host is 1.5 times as wide (twice, where attention
heads must stay whole), and has random norms and statistics, because those of a fresh network are constants that hide a
wrong index.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import pytest
import timm
import torch
from torch import Tensor, nn

from wisp.encoders.cifar_resnet import resnet20
from wisp.encoders.heads import projector
from wisp.subnet.channels import ChannelGroups, trace
from wisp.subnet.groups import length, tensors_of
from wisp.subnet.indexmap import IndexMap
from wisp.subnet.resize import resized
from wisp.subnet.select import by_magnitude, prefix, random
from wisp.subnet.subnet import Subnet

# The side of the image is the smallest at which every weight matters: attention biases need several positions.
ENCODERS = {
    name: 32
    for name in (
        "resnet20",
        "mobilenetv1_100",
        "mobilenetv2_100",
        "mobilenetv3_small_100",
        "mobilenetv3_large_100",
        "mobilenetv4_conv_small",
        "efficientnet_b0",
        "efficientnet_b1",
        "resnet18",
        "resnet34",
        "resnet50",
        "repvit_m0_9",
        "mobileone_s0",
        "vit_tiny_patch16_224",
        "deit_tiny_patch16_224",
        "convnext_atto",
        "regnety_002",
        "ghostnet_100",
        "fastvit_t8",
    )
} | {"mobilevitv2_050": 64, "efficientformerv2_s0": 64}
_SIZED = ("vit", "deit", "efficientformer")


@dataclass
class Case:
    name: str
    network: nn.Module
    groups: ChannelGroups
    host: nn.Module
    subnet: Subnet
    x: Tensor


def build(name: str) -> nn.Module:
    sized = {"img_size": ENCODERS[name]} if name.startswith(_SIZED) else {}
    return resnet20() if name == "resnet20" else timm.create_model(name, num_classes=0, **sized)


def randomise(network: nn.Module) -> None:
    """Give norms and biases the values of a network in the middle of training."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        elif getattr(module, "bias", None) is not None:
            nn.init.normal_(module.bias, std=0.2)
    for parameter in network.parameters():  # layer scales, LayerNorms, tables
        if parameter.numel() > 1 and parameter.min() == parameter.max():
            nn.init.uniform_(parameter, 0.5, 1.5)


@pytest.fixture(scope="module", params=ENCODERS)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    encoder = build(request.param)
    x = torch.randn(3, 3, ENCODERS[request.param], ENCODERS[request.param])
    with torch.no_grad():
        features = encoder.eval()(x).shape[1]
    network = nn.Sequential(encoder, projector(features, 24, 16))
    groups = trace(network, x, fixed=("1",))
    host = resized(network, groups, 2.0 if any(group.whole for group in groups) else 1.5)
    randomise(host)
    yield Case(request.param, network, groups, host, Subnet(network, host, groups, select="by_magnitude"), x)
    torch.set_num_threads(threads)


def test_trace_leaves_only_input_output_and_projector_fixed(case: Case) -> None:
    in_groups = case.groups.by_tensor
    names = [name for name, _ in case.network.named_parameters()]
    assert set(in_groups["1.0.weight"]) == {1}
    images = [name for name in names if name.startswith("0.") and case.network.get_parameter(name).shape[1:2] == (3,)]
    for name, parameter in case.network[0].named_parameters(prefix="0"):
        module = case.network.get_submodule(name.rpartition(".")[0])
        grouped = isinstance(module, nn.Conv2d) and module.groups > 1
        bare = not isinstance(module, nn.Conv2d | nn.Linear)
        expected = {0} if parameter.ndim == 1 or grouped or bare or name in images else {0, 1}
        expected = {2} if name.endswith(("pos_embed", "cls_token")) else expected
        assert set(in_groups[name]) == expected, name
    assert not any(name in in_groups for name in names if name.startswith("1.") and name != "1.0.weight")


def test_widening_multiplies_every_group(case: Case) -> None:
    before, after = tensors_of(case.network), tensors_of(case.host)
    assert before.keys() == after.keys()
    width = 2.0 if any(group.whole for group in case.groups) else 1.5
    sizes = {name: max(1, round(width * size)) for name, size in case.groups.sizes.items()}
    assert case.groups.sizes_in(case.host) == sizes
    for name, tensor in before.items():
        axes = case.groups.by_tensor.get(name, {})
        expected = [length(axes[dim], sizes) if dim in axes else size for dim, size in enumerate(tensor.shape)]
        assert list(after[name].shape) == expected, name


def test_identity(case: Case) -> None:
    subnet = Subnet(case.host, case.host, case.groups, select="by_magnitude").eval()
    assert all(torch.equal(subnet.maps[g.name], torch.arange(subnet.maps.sizes[g.name])) for g in case.groups)
    with torch.no_grad():
        assert torch.equal(subnet(case.x, subnet.gather(case.host)), copy.deepcopy(case.host).eval()(case.x))


def test_export_computes_the_same_and_is_stock(case: Case) -> None:
    subnet = copy.deepcopy(case.subnet)
    with torch.no_grad():
        for _ in range(2):
            subnet.train()(case.x, subnet.gather(case.host))
    exported = subnet.export(case.host)
    with torch.no_grad():
        expected = subnet.eval()(case.x, subnet.gather(case.host))
        assert torch.isfinite(expected).all()
        assert expected.std() > 0
        assert torch.equal(exported(case.x), expected)
        stock = build(case.name).eval()
        stock.load_state_dict(exported[0].state_dict(), strict=True)
        assert torch.equal(exported[1](stock(case.x)), expected)


def test_gradient_support(case: Case) -> None:
    host, subnet = copy.deepcopy(case.host), copy.deepcopy(case.subnet).train()
    subnet(case.x, subnet.gather(host)).square().mean().backward()
    for name, parameter in host.named_parameters():
        inside = torch.ones_like(parameter, dtype=torch.bool)
        for dim in case.groups.by_tensor.get(name, {}):
            selected = torch.zeros(parameter.shape[dim], dtype=torch.bool)
            selected[subnet.maps.positions(name, dim)] = True
            inside = inside & selected.view([-1 if d == dim else 1 for d in range(parameter.ndim)])
        assert parameter.grad is not None, name
        assert not parameter.grad[~inside].any(), name
        assert parameter.grad[inside].any(), name


def test_composition(case: Case) -> None:
    sizes = {group.name: round(1.25 * group.size) for group in case.groups}
    outer = IndexMap(case.groups, case.groups.sizes_in(case.host), random(case.host, case.groups, sizes))
    middle = {name: outer.gather(name, tensor) for name, tensor in tensors_of(case.host).items()}
    chosen = {name: torch.randperm(size)[: case.groups.sizes[name]].sort().values for name, size in sizes.items()}
    inner = IndexMap(case.groups, sizes, chosen)
    both = outer.compose(inner)
    assert both.sizes == case.groups.sizes
    for name, tensor in tensors_of(case.host).items():
        assert torch.equal(both.gather(name, tensor), inner.gather(name, middle[name])), name


def test_prefixes_nest(case: Case) -> None:
    chosen = []
    for width in (0.25, 0.5, 1.0):
        sizes = {group.name: max(1, round(width * group.size)) for group in case.groups}
        chosen.append(prefix(case.host, case.groups, sizes))
        by_size = by_magnitude(case.host, case.groups, sizes)
        assert all(len(by_size[name]) == size for name, size in sizes.items())
    for smaller, larger in pairwise(chosen):
        assert all(set(smaller[name].tolist()) <= set(larger[name].tolist()) for name in smaller)


def test_single_ownership(case: Case) -> None:
    class Owner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.host, self.slim = case.host, case.subnet

    owner = Owner()
    assert [name for name, _ in owner.named_parameters()] == [
        f"host.{name}" for name, _ in case.host.named_parameters()
    ]
    assert not list(case.subnet.parameters())
    assert all(name.split(".")[0] in ("maps", "statistics") for name in case.subnet.state_dict())
    assert not any(tensor.is_meta for tensor in owner.state_dict().values())
    copied = copy.deepcopy(owner)
    assert len(list(copied.parameters())) == len(list(case.host.parameters()))
    with torch.no_grad():
        expected = case.subnet.eval()(case.x, case.subnet.gather(case.host))
        assert torch.equal(copied.slim.eval()(case.x, copied.slim.gather(copied.host)), expected)


def test_a_frozen_pass_moves_nothing(case: Case) -> None:
    subnet = copy.deepcopy(case.subnet).train()
    before = {name: tensor.clone() for name, tensor in {**subnet.state_dict(), **case.host.state_dict()}.items()}
    with torch.no_grad():
        weights = subnet.gather(case.host)
        torch.manual_seed(0)  # GhostNet has dropout
        frozen = subnet(case.x, weights, frozen=True)
        after = {**subnet.state_dict(), **case.host.state_dict()}
        assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
        torch.manual_seed(0)
        assert torch.equal(frozen, subnet(case.x, weights))
    assert not torch.equal(subnet.statistics.mean, before["statistics.mean"])
