"""A network of the same topology at another width."""

from __future__ import annotations

import copy
import math
from typing import TypeVar

import torch
from torch import Tensor, nn

from wisp.errors import WispError
from wisp.subnet.caches import caches_of, clear
from wisp.subnet.groups import ChannelGroups, Layout, length

M = TypeVar("M", bound=nn.Module)


def resized(network: M, groups: ChannelGroups, width: float) -> M:
    """A new network with the topology of `network` and `max(1, round(width * C))` channels in every group.

    Attention heads and the groups of a grouped convolution keep their size and change in number. Heads must come out
    whole; the number of convolution groups is rounded.

    Fixed axes (input channels, final output, everything below a `fixed` prefix of `trace`) keep their size. All weights
    are new, also at `width == 1`; `network` is not changed. Buffers of BatchNorm are reset, other buffers are copied.

    The initialisation needs no knowledge of the source's initialisers, only its untrained weights. A constant tensor
    (BatchNorm scale, zero-initialised gamma, zero bias) stays that constant. Any other is redrawn from a normal
    distribution with the source's standard deviation; for a weight of two or more axes that deviation is multiplied by
    `sqrt(source fan-out / new fan-out)`, where the fan-out of a convolution is filters times kernel area per
    convolution group: networks for images are initialised with variance 2 / fan-out (He et al. 2015). A random tensor
    of one axis (a bias) keeps mean and deviation. The numbers come from torch's global generator on the CPU, so a seed
    means the same on every device. Attributes that `forward` reads follow; those that merely describe the source, such
    as timm's `num_features`, stay.

    Raises:
        WispError: `width` is not positive, it gives no whole number of heads (names the nearest widths that do), or
            `groups` do not belong to `network`.
    """
    if not (math.isfinite(width) and width > 0):
        raise WispError(f"width must be a positive number, got {width}")
    sizes = _new_sizes(groups, groups.sizes_in(network), width)
    result = copy.deepcopy(network)
    for attribute in groups.attributes:
        module, count = result.get_submodule(attribute.module), length(attribute.layout, sizes)
        several = isinstance(getattr(module, attribute.name), tuple)
        setattr(module, attribute.name, (count,) if several else count)
    in_groups = {attribute.module for attribute in groups.attributes if attribute.name == "groups"}
    for path, module in result.named_modules():
        prefix = f"{path}." if path else ""
        grouped = path in in_groups
        for name, parameter in list(module.named_parameters(recurse=False)):
            shape = _new_shape(parameter, groups.by_tensor.get(prefix + name, {}), sizes)
            redrawn = nn.Parameter(_redraw(parameter.detach(), shape, grouped), parameter.requires_grad)
            setattr(module, name, redrawn)
        if isinstance(module, nn.modules.batchnorm._NormBase):
            axes = groups.by_tensor.get(prefix + "running_mean") or groups.by_tensor.get(prefix + "weight", {})
            module.num_features = length(axes[0], sizes) if axes else module.num_features
            for name in ("running_mean", "running_var"):
                if isinstance(buffer := getattr(module, name, None), Tensor):
                    setattr(module, name, buffer.new_empty(module.num_features))
            module.reset_running_stats()
        else:
            _describe(module)
    clear(caches_of(result))
    return result


def _new_sizes(groups: ChannelGroups, sizes: dict[str, int], width: float) -> dict[str, int]:
    heads = [sizes[group.name] for group in groups if group.whole]
    if any(abs(width * count - max(1, round(width * count))) > 0.01 for count in heads):
        unit = math.gcd(*heads)
        low, high = max(1, math.floor(width * unit)), max(1, math.floor(width * unit) + 1)
        nearest = " and ".join(f"{count / unit:.4g}" for count in dict.fromkeys((low, high)))
        raise WispError(
            f"width {width:g} gives no whole number of attention heads ({heads[0]} at width 1); "
            f"the nearest widths that do are {nearest}"
        )
    if heads:  # so that what goes along with the heads is as wide as they are, for a width like 0.667 too
        width = max(1, round(width * math.gcd(*heads))) / math.gcd(*heads)
    return {name: max(1, round(width * size)) for name, size in sizes.items()}


def _describe(module: nn.Module) -> None:
    """Set what a layer's `forward` reads from the shape of its new weight."""
    if isinstance(module, nn.Conv2d):
        module.out_channels = module.weight.shape[0]
        module.in_channels = module.weight.shape[1] * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.PReLU):
        module.num_parameters = module.weight.shape[0]
    elif isinstance(module, nn.GroupNorm) and module.affine:
        module.num_channels = module.weight.shape[0]
    elif isinstance(module, nn.LayerNorm | nn.RMSNorm) and module.elementwise_affine:
        module.normalized_shape = tuple(module.weight.shape)


def _new_shape(tensor: Tensor, axes: dict[int, Layout], sizes: dict[str, int]) -> list[int]:
    return [length(axes[dim], sizes) if dim in axes else size for dim, size in enumerate(tensor.shape)]


def _redraw(source: Tensor, shape: list[int], grouped: bool) -> Tensor:
    """New values of `shape` that look like an initialisation of `source`: same kind, device and memory format."""
    low, high = source.aminmax()
    if low == high:
        return source.new_full(shape, low.item())
    # A group of a convolution produces as many channels at every width: its fan-out does not change.
    scale = math.sqrt(source.shape[0] / shape[0]) if source.ndim > 1 and not grouped else 1.0
    mean = source.mean().item() if source.ndim <= 1 else 0.0
    values = torch.randn(shape).mul_(source.float().std().item() * scale).add_(mean).to(source)
    is_channels_last = source.ndim == 4 and source.is_contiguous(memory_format=torch.channels_last)
    return values.contiguous(memory_format=torch.channels_last) if is_channels_last else values
