"""SACL with masks on a full-width host, for comparison only: what wisp does by slicing, as the paper's fork does it.

The fork (solo-learn-sparse) multiplies the host's weights by 0/1 masks and computes every pass at full width. Its
masks cut convolutions only, layer by layer; here they are those of wisp's slim network, norms and the projector's
input included, so that both steps compute the same loss and the same gradient, and only the cost differs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from wisp.encoders.frozen import frozen_pass
from wisp.methods.branches import HostAndSlim
from wisp.methods.sacl_xd import SaclXd


class MaskedPair(nn.Module):
    """Stands in for `HostAndSlim`: the same channels, multiplied by one instead of gathered."""

    def __init__(self, pair: HostAndSlim) -> None:
        super().__init__()
        self.host = pair.host
        self.masked = {name: name.replace(".", "__") for name in pair.slim.groups.by_tensor}
        for name, mask in _masks(pair).items():
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


def masked(method: SaclXd) -> SaclXd:
    """Turns `method`, whose channels are selected, into its masked twin, in place; it can train, not export."""
    pair = method.pair
    del method.pair
    method.pair = MaskedPair(pair)
    return method


def _masks(pair: HostAndSlim) -> dict[str, Tensor]:
    """Parameter name -> 0/1 mask, for every parameter with an axis in a channel group."""
    maps, groups = pair.slim.maps, pair.slim.groups
    masks: dict[str, Tensor] = {}
    for name, parameter in pair.host.named_parameters():
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
