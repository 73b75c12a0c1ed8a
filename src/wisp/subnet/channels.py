"""From a network to its channel groups. The only module that imports torch-pruning."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wisp.errors import WispError
from wisp.subnet.check import disagreement
from wisp.subnet.groups import Axis, ChannelGroups, Group, UnsupportedStructure
from wisp.subnet.resize import is_depthwise

__all__ = ["Axis", "ChannelGroups", "Group", "UnsupportedStructure", "trace"]

_BatchNorm = nn.modules.batchnorm._BatchNorm
_SUPPORTED = (nn.Conv2d, nn.Linear, nn.PReLU, _BatchNorm)
_REFUSED = (nn.LayerNorm, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm, nn.MultiheadAttention, nn.RNNBase)


def trace(network: nn.Module, example: Tensor, fixed: Sequence[str] = ()) -> ChannelGroups:
    """The channel groups of `network`, [B,3,H,W] -> [B,E]; `example` is any input that it accepts (small is fast).

    The network's input and output are fixed, and so are the output axes of all layers whose module path starts with a
    prefix in `fixed`. An encoder is traced together with its projector, as
    `trace(nn.Sequential(encoder, projector), example, fixed=("1",))`: the encoder's last group then reaches the projector's
    first layer, whose hidden and embedding sizes stay.

    Works on a copy, and proves the result numerically before it returns it (see `wisp.subnet.check`).

    Raises:
        UnsupportedStructure: in one line, the layer and why its channels cannot be described.
    """
    network = copy.deepcopy(network).eval().requires_grad_(True)
    for prefix in fixed:
        if not any(_is_below(path, prefix) for path, _ in network.named_modules()):
            raise WispError(f"fixed={prefix!r} names no module of {type(network).__name__}")
    _refuse_layers(network)
    walk = _Walk(network, example, fixed)
    groups = [group for path, module in network.named_modules() if (group := walk.group(path, module)) is not None]
    walk.refuse_loose_axes()
    result = ChannelGroups(tuple(groups))
    if (reason := disagreement(network, result, example)) is not None:
        raise UnsupportedStructure(reason)
    return result


def _is_below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}.")


def _refuse_layers(network: nn.Module) -> None:
    """Name the first layer whose axes no group can describe, before a tracer guesses about it."""
    for path, module in network.named_modules():
        kind = type(module).__name__
        if isinstance(module, _REFUSED):
            raise UnsupportedStructure(f"{path}: {kind} is not supported (BatchNorm is)")
        if isinstance(module, nn.Conv2d) and module.groups > 1 and not is_depthwise(module):
            raise UnsupportedStructure(
                f"{path}: grouped convolution (groups={module.groups}) is not supported, only ordinary and depthwise ones"
            )
        if not isinstance(module, _SUPPORTED):
            for name, parameter in module.named_parameters(recurse=False):
                if sum(size > 1 for size in parameter.shape) > 1:
                    raise UnsupportedStructure(f"{path}.{name}: a {kind} with weights of several axes is not supported")
    owners: dict[int, str] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        if (first := owners.setdefault(id(parameter), name)) != name:
            raise UnsupportedStructure(f"{name}: shares its weights with {first}, shared weights are not supported")


class _Walk:
    """torch-pruning's graph of one network, and the axes already accounted for."""

    def __init__(self, network: nn.Module, example: Tensor, fixed: Sequence[str]) -> None:
        self.graph = _dependency_graph(network, example)
        self.network = network
        self.fixed = fixed
        self.paths = {module: path for path, module in network.named_modules()}
        self.names = {id(parameter): name for name, parameter in network.named_parameters()}
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
        size = module.num_features if isinstance(module, _BatchNorm) else module.weight.shape[0]
        # The first and the last channel stand for all: where an axis is not coupled one to one, they move or multiply.
        ends = sorted({0, size - 1})
        start = self.graph.get_pruner_of_module(module).prune_out_channels
        axes: dict[Axis, None] = {}
        is_fixed = False
        for dependency, indices in self.graph.get_pruning_group(module, start, ends):
            node = dependency.target
            side = "in" if dependency.handler.__name__ == "prune_in_channels" else "out"
            found = self._axes(node.module, side)
            for axis in found:
                actual = self.network.get_parameter(axis.tensor) if axis.tensor in self.names.values() else self.network.get_buffer(axis.tensor)
                if actual.shape[axis.dim] != size or sorted(indices) != ends:
                    raise UnsupportedStructure(
                        f"{axis.tensor}: axis {axis.dim} has {actual.shape[axis.dim]} channels but is coupled to the {size} of "
                        f"{path} (concatenation, splitting, padding and flattening of channels are not supported)"
                    )
            axes.update(dict.fromkeys(found))
            is_fixed = is_fixed or self._fixes(node, side)
        self.seen.update(axes)
        return None if is_fixed else Group(path, size, tuple(axes))

    def _fixes(self, node: Any, side: str) -> bool:
        """Whether this member ties its group to the network's input or output, or to a fixed layer."""
        mixes = isinstance(node.module, (nn.Conv2d, nn.Linear)) and not is_depthwise(node.module)
        if mixes:
            return side == "out" and (not node.outputs or any(_is_below(self.paths[node.module], prefix) for prefix in self.fixed))
        # An operation without inputs reads a weight (the transpose within a linear layer); a norm without reads the image.
        return not node.outputs or (not node.inputs and node.module in self.paths)

    def _axes(self, module: nn.Module | nn.Parameter, side: str) -> list[Axis]:
        """The axes that a layer contributes to a group on its input or output side."""
        if isinstance(module, nn.Parameter):
            return [Axis(self.names[id(module)], dim) for dim, size in enumerate(module.shape) if size > 1]
        path = self.paths.get(module)
        if path is None or not isinstance(module, _SUPPORTED):
            return []
        prefix = f"{path}." if path else ""
        if side == "in" and isinstance(module, (nn.Conv2d, nn.Linear)) and not is_depthwise(module):
            return [Axis(f"{prefix}weight", 1)]
        if isinstance(module, nn.PReLU) and module.num_parameters == 1:
            return []
        kinds = ("weight", "bias", "running_mean", "running_var")
        return [Axis(prefix + kind, 0) for kind in kinds if isinstance(getattr(module, kind, None), Tensor)]

    def refuse_loose_axes(self) -> None:
        """Every channel axis must be in a group, fixed, or read the network's input."""
        for path, module in self.network.named_modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)) and not is_depthwise(module):
                axis = self._axes(module, "in")[0]
                if axis not in self.seen and self._has_layer_before(self.graph.module2node[module]):
                    raise UnsupportedStructure(f"{path}: its input channels could not be followed back to a layer")
            elif not isinstance(module, (nn.Conv2d, nn.Linear, _BatchNorm)):
                for name, parameter in module.named_parameters(recurse=False):
                    loose = [axis for axis in self._axes(parameter, "out") if axis not in self.seen] if parameter.numel() > 1 else []
                    if loose:
                        raise UnsupportedStructure(f"{path}.{name}: this weight could not be coupled to any layer's channels")

    def _has_layer_before(self, node: Any) -> bool:
        stack, visited = list(node.inputs), set()
        while stack:
            node = stack.pop()
            if id(node) in visited:
                continue
            visited.add(id(node))
            if isinstance(node.module, _SUPPORTED):
                return True
            stack.extend(node.inputs)
        return False


def _dependency_graph(network: nn.Module, example: Tensor) -> Any:
    import torch_pruning

    with torch.enable_grad():
        try:
            # Own list for unwrapped parameters and inputs in a tuple: the defaults share state and unpack a batch of one.
            return torch_pruning.DependencyGraph().build_dependency(
                network, (example.detach(),), unwrapped_parameters=[], customized_pruners={}, verbose=False
            )
        except Exception as error:  # noqa: BLE001
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UnsupportedStructure(f"{type(network).__name__}: cannot be traced ({reason})") from error
