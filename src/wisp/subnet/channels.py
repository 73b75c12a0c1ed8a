"""From a network to its channel groups. The only module that imports torch-pruning."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wisp.errors import WispError
from wisp.subnet.check import disagreement
from wisp.subnet.groups import Axis, ChannelGroups, Group, UnsupportedStructure, tensors_of
from wisp.subnet.resize import is_depthwise

__all__ = ["Axis", "ChannelGroups", "Group", "UnsupportedStructure", "trace"]

_BatchNorm = nn.modules.batchnorm._BatchNorm
_SUPPORTED = (nn.Conv2d, nn.Linear, nn.PReLU, _BatchNorm)
_REFUSED = (nn.LayerNorm, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm, nn.MultiheadAttention, nn.RNNBase)


def trace(network: nn.Module, example: Tensor, fixed: Sequence[str] = ()) -> ChannelGroups:
    """The channel groups of `network`, [B,3,H,W] -> [B,E]; `example` is any input that it accepts (small is fast).

    The network's input and output are fixed, and so are the output axes of all layers whose module path starts with
    a prefix in `fixed`. An encoder is traced together with its projector, as
    `trace(nn.Sequential(encoder, projector), example, fixed=("1",))`: the encoder's last group then reaches the
    projector's first layer, whose hidden and embedding sizes stay.

    Trace before any SyncBatchNorm conversion. Works on a copy, and proves the result numerically before it returns it
    (see `wisp.subnet.check`).

    Raises:
        UnsupportedStructure: in one line, the layer and why its channels cannot be described.
        WispError: a prefix in `fixed` names no module.
    """
    network = copy.deepcopy(network).eval().requires_grad_(True)
    for prefix in fixed:
        if not any(_is_below(path, prefix) for path, _ in network.named_modules()):
            raise WispError(f"fixed={prefix!r} names no module of {type(network).__name__}")
    _refuse_layers(network)
    walk = _Walk(network, example, fixed)
    groups = [group for path, module in network.named_modules() if (group := walk.group(path, module)) is not None]
    walk.refuse_loose_axes()
    if not groups:
        raise UnsupportedStructure(f"{type(network).__name__}: no layer has channels that may change in number")
    result = ChannelGroups(tuple(groups))
    if (reason := disagreement(network, result, example)) is not None:
        raise UnsupportedStructure(reason)
    return result


def _is_below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}.")


def _refuse_layers(network: nn.Module) -> None:
    """Name the first layer whose axes no group can describe, before a tracer guesses about it."""
    for path, _ in network.named_modules():
        if path.rpartition(".")[2] == "qkv":
            raise UnsupportedStructure(f"{path}: attention with queries, keys and values in one axis is not supported")
    for path, module in network.named_modules():
        kind = type(module).__name__
        if isinstance(module, _REFUSED):
            raise UnsupportedStructure(f"{path}: {kind} is not supported (BatchNorm is)")
        if isinstance(module, nn.Conv2d) and module.groups > 1 and not is_depthwise(module):
            reason = f"grouped convolution (groups={module.groups}) is not supported, ordinary and depthwise ones are"
            raise UnsupportedStructure(f"{path}: {reason}")
        for name, parameter in module.named_parameters(recurse=False):
            if isinstance(module, _SUPPORTED) and name not in ("weight", "bias"):
                raise UnsupportedStructure(f"{path}: {kind} is not supported, it has a {name} besides weight and bias")
            if not isinstance(module, _SUPPORTED) and sum(size > 1 for size in parameter.shape) > 1:
                shape = tuple(parameter.shape)
                raise UnsupportedStructure(f"{path}: {kind} is not supported, its {name} {shape} has several axes")
    owners: dict[int, str] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        if (first := owners.setdefault(id(parameter), name)) != name:
            raise UnsupportedStructure(f"{name}: is one tensor with {first}, shared weights are not supported")


class _Walk:
    """The dependency graph of one network, and the axes already accounted for."""

    def __init__(self, network: nn.Module, example: Tensor, fixed: Sequence[str]) -> None:
        self.network = network
        self.fixed = fixed
        self.paths = {module: path for path, module in network.named_modules()}
        self.names = {id(parameter): name for name, parameter in network.named_parameters()}
        self.tensors = tensors_of(network)
        self.order = {name: position for position, name in enumerate(self.tensors)}
        self.graph = _dependency_graph(network, example)
        self.seen: set[Axis] = set()

    def group(self, path: str, module: nn.Module) -> Group | None:
        """The group that starts at this layer's output; None if the layer has none, is known already, or is fixed."""
        if not isinstance(module, (nn.Conv2d, nn.Linear, _BatchNorm)):
            return None
        if module not in self.graph.module2node:
            raise UnsupportedStructure(f"{path}: the example input does not pass through this layer")
        root = self._axes(module, "out")
        if not root or root[0] in self.seen:
            return None
        size = self.tensors[root[0].tensor].shape[0]
        # The first and the last channel stand for all: where axes are not coupled one to one, they move or multiply.
        ends = sorted({0, size - 1})
        start = self.graph.get_pruner_of_module(module).prune_out_channels
        axes: set[Axis] = set()
        is_fixed = False
        for dependency, indices in self.graph.get_pruning_group(module, start, ends):
            node = dependency.target
            side = "in" if dependency.handler.__name__ == "prune_in_channels" else "out"
            for axis in self._axes(node.module, side):
                self._refuse_other_channels(axis, path, size, sorted(indices) == ends)
                axes.add(axis)
            is_fixed = is_fixed or self._is_fixed(node, side)
        self.seen.update(axes)
        if is_fixed:
            return None
        return Group(path, size, tuple(sorted(axes, key=lambda axis: (self.order[axis.tensor], axis.dim))))

    def refuse_loose_axes(self) -> None:
        """Every channel axis must be in a group, fixed, or read the network's input."""
        for path, module in self.network.named_modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                loose = [axis for axis in self._axes(module, "in") if axis not in self.seen]
                if loose and self._has_layer_before(self.graph.module2node[module]):
                    raise UnsupportedStructure(f"{path}: its input channels could not be followed back to a layer")
            elif not isinstance(module, _BatchNorm):
                for name, parameter in module.named_parameters(recurse=False):
                    if any(axis not in self.seen for axis in self._axes(parameter, "out")):
                        raise UnsupportedStructure(f"{path}: its {name} could not be coupled to any layer's channels")

    def _axes(self, module: nn.Module | nn.Parameter, side: str) -> list[Axis]:
        """The axes that a layer, or a weight outside of layers, contributes to a group on its input or output side."""
        if isinstance(module, nn.Parameter):
            return [Axis(self.names[id(module)], dim) for dim, size in enumerate(module.shape) if size > 1]
        if not isinstance(module, _SUPPORTED) or (isinstance(module, nn.PReLU) and module.num_parameters == 1):
            return []
        prefix = f"{self.paths[module]}." if self.paths[module] else ""
        if side == "in" and _mixes(module):
            return [Axis(f"{prefix}weight", 1)]
        kinds = ("weight", "bias", "running_mean", "running_var")
        return [Axis(prefix + kind, 0) for kind in kinds if prefix + kind in self.tensors]

    def _refuse_other_channels(self, axis: Axis, path: str, size: int, is_one_to_one: bool) -> None:
        actual = self.tensors[axis.tensor].shape[axis.dim]
        if actual != size:
            coupling = f"its {actual} channels are coupled to the {size} of {path}"
        elif not is_one_to_one:
            coupling = f"its channels are coupled to those of {path} at other positions"
        else:
            return
        layer = axis.tensor.rpartition(".")[0]
        raise UnsupportedStructure(
            f"{layer}: {coupling}; channels that are concatenated, split, padded or flattened are not supported"
        )

    def _is_fixed(self, node: Any, side: str) -> bool:
        """Whether this member ties its group to the network's input or output, or to a fixed layer."""
        if _mixes(node.module):
            is_below = any(_is_below(self.paths[node.module], prefix) for prefix in self.fixed)
            return side == "out" and (is_below or not node.outputs)
        # An operation without inputs reads a weight, as the transpose in a linear layer does; a norm reads the image.
        return not node.outputs or (not node.inputs and node.module in self.paths)

    def _has_layer_before(self, node: Any) -> bool:
        stack, visited = list(node.inputs), {id(node)}
        while stack:
            node = stack.pop()
            if id(node) not in visited:
                if isinstance(node.module, _SUPPORTED):
                    return True
                visited.add(id(node))
                stack.extend(node.inputs)
        return False


def _mixes(module: object) -> bool:
    """Whether a layer's input and output channels are different axes."""
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and not is_depthwise(module))


def _dependency_graph(network: nn.Module, example: Tensor) -> Any:
    import torch_pruning  # here, because its import takes seconds that only a trace should pay

    with torch.enable_grad():
        try:
            # Everything that has a shared default is passed; without `forward_fn` a batch of one would be unpacked.
            return torch_pruning.DependencyGraph().build_dependency(
                network,
                example.detach(),
                forward_fn=lambda model, x: model(x),
                unwrapped_parameters=[],
                customized_pruners={},
                verbose=False,
            )
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UnsupportedStructure(f"{type(network).__name__}: cannot be traced ({reason})") from error
