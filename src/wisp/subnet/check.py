"""Numerical proof that channel groups describe a network: permuted channels must compute the same function."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from wisp.subnet.groups import ChannelGroups, Group
from wisp.subnet.resize import resized


def disagreement(network: nn.Module, groups: ChannelGroups, example: Tensor) -> str | None:
    """None when `groups` hold for `network` [B,3,H,W] -> [B,E], else one line that names the layer and says why.

    Two things are tried. First, in float64 and on random weights, every group's channels are permuted: a missing,
    surplus or wrongly coupled axis changes the output, as does an operation that reads channel positions (channel
    shuffle, padding, attention heads). Then a 1.5 times wider network must run and give the same output shape, which
    meets sizes that the code of the network holds as constants. `network` is in evaluation mode; neither it nor torch's
    global generator is changed.
    """
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn((2, *example.shape[1:]), generator=generator).to(example)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        scrambled = _scrambled(copy.deepcopy(network).double(), probe.double(), generator)
        expected = scrambled(probe.double())
        orders = {group.name: torch.randperm(group.size, generator=generator) for group in groups}
        if not _unmoved(scrambled, groups, orders, probe, expected):
            for group in groups:
                if not _unmoved(scrambled, [group], orders, probe, expected):
                    return f"{group.name}: its channels cannot be reordered, some operation depends on their positions"
            return f"{next(iter(groups)).name}: channels cannot be reordered, some operation depends on their positions"
        wide = resized(network, groups, 1.5).eval()
        try:
            output = wide(probe)
        except (RuntimeError, ValueError, AssertionError) as error:
            return f"{type(network).__name__}: does not run at 1.5 times the width ({str(error).splitlines()[0]})"
    if output.shape != expected.shape:
        shapes = f"{tuple(expected.shape)} to {tuple(output.shape)}"
        return f"{type(network).__name__}: the output changes from {shapes} at 1.5 times the width"
    return None


def _scrambled(network: nn.Module, probe: Tensor, generator: torch.Generator) -> nn.Module:
    """`network` in evaluation mode with random constants, and statistics that keep every activation near unit scale.

    Fresh networks have constant norms and biases, and residual gammas at zero: permuting those would prove nothing.
    """
    for parameter in network.parameters():
        if parameter.ndim <= 1 or bool(parameter.min() == parameter.max()):
            noise = torch.rand(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.copy_(0.5 + noise)
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    network.eval()
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    network(probe)
    return network.eval()


def _unmoved(
    network: nn.Module, groups: Iterable[Group], orders: dict[str, Tensor], probe: Tensor, expected: Tensor
) -> bool:
    permuted = copy.deepcopy(network)
    tensors = {**dict(permuted.named_parameters()), **dict(permuted.named_buffers())}
    for group in groups:
        order = orders[group.name].to(probe.device)
        for axis in group.axes:
            tensor = tensors[axis.tensor]
            tensor.copy_(tensor.index_select(axis.dim, order))
    return bool(torch.allclose(permuted(probe.double()), expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max())))
