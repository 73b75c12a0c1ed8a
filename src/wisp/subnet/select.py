"""Which of a host's channels a sub-network uses: k of n, per channel group.

Every rule takes `(host, groups, sizes)`, where `sizes` maps each group name to the sub-network's number of channels,
and returns exactly that many sorted, distinct int64 host indices per group, on the host's device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from wisp.errors import WispError, nearest
from wisp.subnet.groups import ChannelGroups, Group, tensors_of

Rule = Callable[[nn.Module, ChannelGroups, Mapping[str, int]], dict[str, Tensor]]


def prefix(host: nn.Module, groups: ChannelGroups, sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """The first k channels of every group (slimmable networks; Zhao et al. 2022, SlimCLR)."""
    device = _device(host)
    _check(groups.sizes_in(host), sizes)
    return {group.name: torch.arange(sizes[group.name], device=device) for group in groups}


@torch.no_grad()
def by_magnitude(host: nn.Module, groups: ChannelGroups, sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """The k channels of every group with the largest filters; ties go to the lowest index.

    The score of a channel is the L1 norm of the filters that produce it, summed over all layers of the group: every
    convolution (depthwise ones too) and linear layer that has the group on axis 0 of its weight. SACL-XD (section 3.2)
    selects by the L1 norm of filters per layer; layers summed by a residual must share their indices, so the group is
    the smallest unit that a dense stock network can select. A head's filters are those of its queries, keys and values.
    """
    host_sizes = groups.sizes_in(host)
    _check(host_sizes, sizes)
    tensors = tensors_of(host)
    chosen: dict[str, Tensor] = {}
    for group in groups:
        order = _scores(group, groups, tensors, host_sizes).argsort(descending=True, stable=True)
        chosen[group.name] = order[: sizes[group.name]].sort().values
    return chosen


def random(
    host: nn.Module, groups: ChannelGroups, sizes: Mapping[str, int], generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """Any k channels of every group, uniformly; drawn on the CPU from `generator` (default: torch's global one)."""
    device = _device(host)
    host_sizes = groups.sizes_in(host)
    _check(host_sizes, sizes)
    return {
        group.name: torch.randperm(host_sizes[group.name], generator=generator)[: sizes[group.name]]
        .sort()
        .values.to(device)
        for group in groups
    }


_RULES: dict[str, Rule] = {"prefix": prefix, "by_magnitude": by_magnitude, "random": random}


def rule(name: str) -> Rule:
    """The selection rule called `name`.

    Raises:
        WispError: there is no such rule.
    """
    if name not in _RULES:
        raise WispError(f"no selection rule {name!r}; did you mean {nearest(name, _RULES, 1)[0]!r}?")
    return _RULES[name]


def _scores(group: Group, groups: ChannelGroups, tensors: Mapping[str, Tensor], sizes: Mapping[str, int]) -> Tensor:
    """The L1 norm of each channel's filters, [channels]; a head has many on one axis, in its block of each segment."""
    scores = []
    for name in _filters(group, tensors):
        rows, offset = tensors[name].float().abs().flatten(1).sum(1), 0
        for segment in groups.by_tensor[name][0]:
            stretch = segment.block * (1 if segment.group is None else sizes[segment.group])
            if segment.group == group.name:
                scores.append(rows[offset : offset + stretch].view(-1, segment.block).sum(1))
            offset += stretch
    return torch.stack(scores).sum(0)


def _filters(group: Group, tensors: Mapping[str, Tensor]) -> list[str]:
    """Weights whose filters produce the group's channels; norms and biases (one axis) only rescale them.

    Tables of another name, such as the position biases of attention heads, are no filters.
    """
    tables = [axis.tensor for axis in group.axes if axis.dim == 0 and tensors[axis.tensor].ndim > 1]
    return [name for name in tables if name.rpartition(".")[2] == "weight"]


def _device(host: nn.Module) -> torch.device:
    return next(host.parameters()).device


def _check(host_sizes: Mapping[str, int], sizes: Mapping[str, int]) -> None:
    for name, size in host_sizes.items():
        if not 1 <= sizes[name] <= size:
            raise WispError(f"{name}: cannot select {sizes[name]} of the host's {size} channels; make the host wider")
