"""SACL and SlimCLR with masks on a full-width host, for comparison only: what wisp does by slicing.

The fork of SACL's paper (solo-learn-sparse) multiplies the host's weights by 0/1 masks and computes every pass at full
width. Its masks cut convolutions only, layer by layer; here they are those of wisp's narrow networks, norms and heads
included, so that both steps compute the same loss and the same gradient, and only the cost differs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from wisp.encoders.frozen import frozen_pass
from wisp.methods.parts.branches import HostAndSlim
from wisp.methods.parts.widths import Widths
from wisp.methods.sacl_xd import SaclXd
from wisp.methods.slimclr import SlimCLR
from wisp.subnet.subnet import Subnet


class MaskedPair(nn.Module):
    """Stands in for `HostAndSlim`: the same channels, multiplied by one instead of gathered."""

    def __init__(self, pair: HostAndSlim) -> None:
        super().__init__()
        self.host = pair.host
        self.masked = {name: name.replace(".", "__") for name in pair.slim.groups.by_tensor}
        for name, mask in _masks(pair.slim, pair.host).items():
            self.register_buffer(self.masked[name], mask)

    def gather(self) -> dict[str, Tensor]:
        """The host's parameters with all but the selected channels at zero; once a step, as wisp gathers."""
        named = dict(self.host.named_parameters())
        return {name: named[name] * self.get_buffer(mask) for name, mask in self.masked.items() if name in named}

    def slim(self, x: Tensor, weights: dict[str, Tensor]) -> Tensor:
        """[B,3,H,W] -> [B,E] at the host's cost; running statistics are the host's, as in the fork."""
        embedding: Tensor = functional_call(self.host, weights, (x,))
        return embedding

    def frozen(self, x: Tensor, weights: dict[str, Tensor] | None = None) -> Tensor:
        """[B,3,H,W] -> [B,E] without a gradient and without a trace."""
        if weights is None:
            return frozen_pass(self.host, x)
        with torch.no_grad():
            buffers = {name: buffer.clone() for name, buffer in self.host.named_buffers()}
            embedding: Tensor = functional_call(self.host, {**weights, **buffers}, (x,))
            return embedding


class MaskedWidth(nn.Module):
    """Stands in for one narrow network of SlimCLR: the host's weights times masks, and full-width norms of its own."""

    def __init__(self, subnet: Subnet, host: nn.Module) -> None:
        super().__init__()
        self.masked = {name: name.replace(".", "__") for name in subnet.groups.by_tensor}
        for name, mask in _masks(subnet, host).items():
            self.register_buffer(self.masked[name], mask)
        tensors = dict(host.named_parameters())
        private = {key: name for name, key in self.masked.items() if key in subnet.norms}
        self.norms = nn.ParameterDict({key: tensors[name].detach().clone() for key, name in private.items()})
        self.statistics = {name: f"own_{name.replace('.', '__')}" for name, _ in host.named_buffers()}
        for name, buffer in host.named_buffers():
            self.register_buffer(self.statistics[name], buffer.clone())

    def embedder(self, host: nn.Module) -> Callable[[Tensor], Tensor]:
        """[B,3,H,W] -> [B,E] at the host's cost; the masks are applied once a step."""
        named = dict(host.named_parameters())
        weights = {
            name: (self.norms[key] if key in self.norms else named[name]) * self.get_buffer(key)
            for name, key in self.masked.items()
            if name in named
        }
        buffers = {name: self.get_buffer(key) for name, key in self.statistics.items()}
        return partial(_call, host, {**weights, **buffers})


def _call(host: nn.Module, tensors: dict[str, Tensor], x: Tensor) -> Tensor:
    embedding: Tensor = functional_call(host, tensors, (x,))
    return embedding


class MaskedWidths(nn.Module):
    """Stands in for `Widths`: every narrow network costs as much as the full one."""

    def __init__(self, widths: Widths, host: nn.Module) -> None:
        super().__init__()
        self.narrow = nn.ModuleList(MaskedWidth(each, host) for each in widths.narrow if isinstance(each, Subnet))

    def embedders(self, host: nn.Module) -> list[Callable[[Tensor], Tensor]]:
        """[B,3,H,W] -> [B,E] at every width but the first."""
        return [each.embedder(host) for each in self.narrow if isinstance(each, MaskedWidth)]


def masked(method: SaclXd) -> SaclXd:
    """Turns `method`, whose channels are selected, into its masked twin, in place; it can train, not export."""
    pair = method.pair
    del method.pair
    method.pair = MaskedPair(pair)
    return method


def masked_widths(method: SlimCLR) -> SlimCLR:
    """Turns a SlimCLR that was just made into its masked twin, in place; it can train, not export."""
    narrow = method.narrow
    del method.narrow
    method.narrow = MaskedWidths(narrow, method.base.network)
    return method


def _masks(subnet: Subnet, host: nn.Module) -> dict[str, Tensor]:
    """Parameter name -> 0/1 mask, for every parameter with an axis in a channel group."""
    maps, groups = subnet.maps, subnet.groups
    masks: dict[str, Tensor] = {}
    for name, parameter in host.named_parameters():
        if name not in groups.by_tensor:
            continue
        mask = torch.ones(1, dtype=parameter.dtype, device=parameter.device)
        for dim in groups.by_tensor[name]:
            chosen = maps.positions(name, dim)
            assert chosen is not None
            shape = [1] * parameter.ndim
            shape[dim] = parameter.shape[dim]
            kept = torch.zeros(parameter.shape[dim], dtype=parameter.dtype, device=parameter.device)
            mask = mask * kept.index_fill_(0, chosen, 1.0).view(shape)
        masks[name] = mask
    return masks
