"""Numerical proof that channel groups describe a network: permuted channels must compute the same function."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from wisp.errors import WispError, first_line
from wisp.subnet.caches import caches_of, clear
from wisp.subnet.groups import ChannelGroups, tensors_of
from wisp.subnet.indexmap import spread
from wisp.subnet.resize import resized


def disagreement(network: nn.Module, groups: ChannelGroups, example: Tensor) -> str | None:
    """None when `groups` hold for `network` [B,3,H,W] -> [B,E], else one line that names the layer and says why.

    In float64 and on random weights, every group's channels are permuted: a missing, surplus or wrongly coupled axis
    changes the output, as does an operation that reads channel positions (padding, attention over more than heads).
    Then the same is done with a wider network (1.5 times, twice where heads must stay whole), which must run and give
    the same output shape: it meets sizes that the code of the network holds as constants, and layouts that only fit
    one size. `network` is in evaluation mode; neither it nor torch's global generator is changed.
    """
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn((2, *example.shape[1:]), generator=generator).to(example)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        running: list[str] = []
        try:
            watched = _watched(copy.deepcopy(network), running)
            expected, reason = _permuted(watched, groups, probe.double(), generator)
        except WispError:  # of groups that contradict themselves
            raise
        except Exception as error:  # whatever a network's own code raises
            layer = (running and running[-1]) or type(network).__name__
            return f"{layer}: does not run in float64, in which its channels are checked ({first_line(error)})"
        if reason is not None:
            return reason
        width = 2.0 if any(group.whole for group in groups) else 1.5
        running.clear()
        try:
            wide = _watched(resized(network, groups, width).eval(), running)
            output, reason = _permuted(wide, groups, probe.double(), generator)
        except Exception as error:
            layer = (running and running[-1]) or type(network).__name__
            return f"{layer}: does not run at {width:g} times the width ({first_line(error)})"
    if output.shape != expected.shape:
        shapes = f"{tuple(expected.shape)} to {tuple(output.shape)}"
        return f"{type(network).__name__}: the output changes from {shapes} at {width:g} times the width"
    return reason


def _watched(network: nn.Module, running: list[str]) -> nn.Module:
    """`network` with hooks that keep the paths of the modules now running, innermost last."""

    def enter(path: str) -> Callable[[nn.Module, object], None]:
        return lambda *_: running.append(path)

    def leave(*_: object) -> None:
        running.pop()

    for path, module in network.named_modules():
        module.register_forward_pre_hook(enter(path))
        module.register_forward_hook(leave)
    return network


def _permuted(
    network: nn.Module, groups: ChannelGroups, probe: Tensor, generator: torch.Generator
) -> tuple[Tensor, str | None]:
    """The output of a scrambled `network`, and the group whose order it depends on, if any."""
    scrambled = _scrambled(copy.deepcopy(network).double(), probe, generator)
    expected = scrambled(probe)
    sizes = groups.sizes_in(scrambled)
    orders = {name: _order(size, generator).to(probe.device) for name, size in sizes.items()}
    if _unmoved(scrambled, groups, orders, probe, expected):
        return expected, None
    still = {name: torch.arange(size, device=probe.device) for name, size in sizes.items()}
    why = "some operation depends on their positions"
    for group in groups:
        if not _unmoved(scrambled, groups, {**still, group.name: orders[group.name]}, probe, expected):
            return expected, f"{group.name}: its channels cannot be reordered, {why}"
    name = next(iter(groups)).name
    return expected, f"{name}: channels cannot be reordered, {why}"


def _order(size: int, generator: torch.Generator) -> Tensor:
    """Another order of so many channels; of a few, a random one might well leave them, or pairs of them, in place."""
    return torch.arange(size).roll(1) if size <= 8 else torch.randperm(size, generator=generator)


def _scrambled(network: nn.Module, probe: Tensor, generator: torch.Generator) -> nn.Module:
    """`network` in evaluation mode with random constants, and statistics that keep every activation near unit scale.

    Fresh networks have constant norms and biases, residual gammas at zero and tokens close to it: permuting those would
    prove nothing.
    """
    for parameter in network.parameters():
        if parameter.ndim <= 1 or bool(parameter.max() - parameter.min() < 1e-3):
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
    network: nn.Module, groups: ChannelGroups, orders: Mapping[str, Tensor], probe: Tensor, expected: Tensor
) -> bool:
    permuted = copy.deepcopy(network)
    clear(caches_of(permuted))
    tensors = tensors_of(permuted)
    sizes = {name: len(order) for name, order in orders.items()}
    for name, axes in groups.by_tensor.items():
        for dim, layout in axes.items():
            tensors[name].copy_(tensors[name].index_select(dim, spread(layout, orders, sizes)))
    return bool(torch.allclose(permuted(probe), expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max())))
