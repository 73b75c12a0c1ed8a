"""From a network to its channel groups."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wisp.errors import WispError, first_line
from wisp.subnet.caches import caches_of, clear
from wisp.subnet.check import disagreement
from wisp.subnet.flow import Flow, tensors_in
from wisp.subnet.groups import Axis, ChannelGroups, Group, UnsupportedStructure
from wisp.subnet.labels import Labels, Mark, Vector
from wisp.subnet.operations import result_dims
from wisp.subnet.structure import Place, channel_groups

__all__ = ["Axis", "ChannelGroups", "Group", "UnsupportedStructure", "trace"]

_BatchNorm = nn.modules.batchnorm._BatchNorm
_Layer = (nn.modules.conv._ConvNd, nn.Linear)


def trace(network: nn.Module, example: Tensor, fixed: Sequence[str] = ()) -> ChannelGroups:
    """The channel groups of `network`, [B,3,H,W] -> [B,E]; `example` is any input that it accepts (small is fast).

    The network's input and output are fixed, and so are the output axes of all layers whose module path starts with
    a prefix in `fixed`. An encoder is traced together with its projector, as
    `trace(nn.Sequential(encoder, projector), example, fixed=("1",))`: the encoder's last group then reaches the
    projector's first layer, whose hidden and embedding sizes stay.

    The network is run once while `wisp.subnet.flow` watches which entries of which weights are combined one to one.
    Trace before any SyncBatchNorm conversion. Works on a copy, and proves the result numerically before it returns it
    (see `wisp.subnet.check`).

    Raises:
        UnsupportedStructure: in one line, the layer and why its channels cannot be described.
        WispError: a prefix in `fixed` names no module.
    """
    network = copy.deepcopy(network).eval().requires_grad_(True)
    clear(caches_of(network))
    for prefix in fixed:
        if not any(_is_below(path, prefix) for path, _ in network.named_modules()):
            raise WispError(f"fixed={prefix!r} names no module of {type(network).__name__}")
    _refuse_shared_weights(network)
    _refuse_packed_weights(network)
    result = _groups(copy.deepcopy(network), example, fixed)
    if not result.groups:
        raise UnsupportedStructure(f"{type(network).__name__}: no layer has channels that may change in number")
    if (reason := disagreement(network, result, example)) is not None:
        raise UnsupportedStructure(reason)
    return result


def _is_below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}.")


def _refuse_shared_weights(network: nn.Module) -> None:
    owners: dict[int, str] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        if (first := owners.setdefault(id(parameter), name)) != name:
            raise UnsupportedStructure(f"{name}: is one tensor with {first}, shared weights are not supported")


def _refuse_packed_weights(network: nn.Module) -> None:
    for path, module in network.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            raise UnsupportedStructure(
                f"{path or 'the network itself'}: MultiheadAttention keeps queries, keys and values in one weight, "
                "which is not supported; linear layers are, fused or not"
            )


def _groups(network: nn.Module, example: Tensor, fixed: Sequence[str]) -> ChannelGroups:
    """Run `network`, which is changed, and read the groups off the labels of its weights."""
    flow = Flow(network, result_dims)
    places: dict[Place, Vector] = {}
    layers = {path: module for path, module in network.named_modules() if isinstance(module, _Layer)}
    for name, tensor in _labelled(network).items():
        layer = name.rpartition(".")[0] in layers
        # A kernel axis of size 1 has no labels, a channel axis has: a layer may have one channel.
        flow.set(
            tensor,
            [
                flow.labels.fresh(size) if size > 1 or (layer and dim < 2) else None
                for dim, size in enumerate(tensor.shape)
            ],
        )
        places |= {(name, dim): vector for dim, vector in enumerate(flow.dims(tensor)) if vector is not None}
    _run(network, example, flow)
    for path, module in network.named_modules():
        for name, tensor in [*module.named_parameters(recurse=False)]:
            if id(tensor) not in flow.used:
                raise UnsupportedStructure(
                    f"{path or 'the network itself'}: the example input does not pass through its {name}"
                )
    for path in layers:
        if any(_is_below(path, prefix) for prefix in fixed):
            flow.labels.mark(places[f"{path}.weight" if path else "weight", 0], Mark.BOUNDARY)
    weights = [f"{path}.weight" if path else "weight" for path in layers]
    for weight in weights:
        for dim in (0, 1):
            _refuse_positions(flow.labels, weight.rpartition(".")[0], ("output", "input")[dim], places[weight, dim])
    return channel_groups(flow.labels, places, set(weights), flow.attributes)


def _refuse_positions(labels: Labels, layer: str, side: str, vector: Vector) -> None:
    """The channels of a layer may be places (a token mixer has those), but nothing may tell them from each other.

    Those of the image and of the output may be told: they are fixed anyway.
    """
    if bool((labels.has(vector, Mark.READ) & ~labels.has(vector, Mark.BOUNDARY)).any()):
        reason = "meet a constant, or an operation that reads their positions"
    elif bool((labels.has(vector, Mark.HEAD) & labels.has(vector, Mark.POSITION)).any()):
        reason = "are heads that meet something with as many positions"
    else:
        return
    raise UnsupportedStructure(f"{layer}: its {side} channels {reason}; they cannot change in number")


def _labelled(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and BatchNorm statistics, in the order of the network."""
    found: dict[str, Tensor] = {}
    for path, module in network.named_modules():
        prefix = f"{path}." if path else ""
        found |= {prefix + name: tensor for name, tensor in module.named_parameters(recurse=False)}
        if isinstance(module, _BatchNorm) and module.running_mean is not None and module.running_var is not None:
            found |= {f"{prefix}running_mean": module.running_mean, f"{prefix}running_var": module.running_var}
    return found


def _run(network: nn.Module, example: Tensor, flow: Flow) -> None:
    image = example.detach().clone()
    flow.set(image, [None, flow.labels.fresh(image.shape[1], Mark.BOUNDARY), *[None] * (image.ndim - 2)])
    with torch.no_grad(), flow:
        try:
            output = network(image)
        except UnsupportedStructure:
            raise
        except Exception as error:
            raise UnsupportedStructure(f"{type(network).__name__}: cannot be traced ({first_line(error)})") from error
    for tensor in tensors_in([output]):
        flow.mark(flow.dims(tensor), Mark.BOUNDARY)
