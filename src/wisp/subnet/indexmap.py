"""The index vectors of a sub-network, one per channel group, and what they do to a tensor."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wisp.errors import WispError
from wisp.subnet.groups import ChannelGroups, Layout, Segment


class IndexMap(nn.Module):
    """Group name -> sorted, distinct int64 host indices: channel j of a group is the host's channel `maps[group][j]`.

    The indices are buffers: they are part of a checkpoint, follow `.to(device)`, and are updated in place, so that a
    compiled step is not compiled again. Axes on which channels are blocks, or that hold several groups, have buffers of
    their own, one per layout.
    """

    def __init__(self, groups: ChannelGroups, host_sizes: Mapping[str, int], indices: Mapping[str, Tensor]) -> None:
        """Keep copies of `indices`; `host_sizes` are the host's channels per group, see `ChannelGroups.sizes_in`."""
        super().__init__()
        self.groups = groups
        self.host_sizes = dict(host_sizes)
        for group in groups:
            self.register_buffer(_key(group.name), indices[group.name].detach().clone())
        self.check()
        self._keys: dict[Layout, str] = {(Segment(group.name),): _key(group.name) for group in groups}
        for layout in (layout for axes in groups.by_tensor.values() for layout in axes.values()):
            if layout not in self._keys:
                self._keys[layout] = f"axis{len(self._keys)}"
                self.register_buffer(self._keys[layout], self._spread(layout))
        # Axes that the sub-network uses in full need no gather: sorted and distinct, they can only be 0..n-1.
        self._partial = {
            tensor: {dim: self._keys[layout] for dim, layout in axes.items() if not self._is_full(layout)}
            for tensor, axes in groups.by_tensor.items()
        }

    @classmethod
    def identity(cls, groups: ChannelGroups, host_sizes: Mapping[str, int]) -> IndexMap:
        """The map that selects every channel of the host."""
        return cls(groups, host_sizes, {name: torch.arange(size) for name, size in host_sizes.items()})

    def __getitem__(self, name: str) -> Tensor:
        """The host indices of the group called `name`, [k]."""
        return self.get_buffer(_key(name))

    @property
    def sizes(self) -> dict[str, int]:
        """Group name -> channels in the sub-network."""
        return {group.name: self[group.name].numel() for group in self.groups}

    def update(self, indices: Mapping[str, Tensor]) -> None:
        """Select other channels, as many as before.

        Raises:
            WispError: the new indices are not sorted, distinct and in range, or their number differs.
        """
        checked = {name: _checked(name, indices[name], size, self[name]) for name, size in self.host_sizes.items()}
        for name, new in checked.items():
            self[name].copy_(new)
        for layout, key in self._keys.items():
            if key.startswith("axis"):
                self.get_buffer(key).copy_(self._spread(layout))

    def positions(self, name: str, dim: int) -> Tensor | None:
        """The selected entries of one axis of the host tensor called `name`, int64; None if the axis is fixed."""
        layout = self.groups.by_tensor.get(name, {}).get(dim)
        return None if layout is None else self.get_buffer(self._keys[layout])

    def gather(self, name: str, tensor: Tensor) -> Tensor:
        """The sub-network's part of the host tensor called `name`; differentiable, keeps channels_last."""
        axes = self._partial.get(name)
        if not axes:
            return tensor
        # index_select returns contiguous tensors: in the permuted view, that is channels_last again, without a copy.
        # By stride, since `is_contiguous` says yes to both formats for 1x1 and for depthwise weights.
        turned = tensor.ndim == 4 and tensor.stride(1) == 1 and tensor.stride(3) == tensor.shape[1]
        if turned:
            tensor = tensor.permute(0, 2, 3, 1)
        for dim, key in axes.items():
            tensor = tensor.index_select((0, 3, 1, 2)[dim] if turned else dim, self.get_buffer(key))
        return tensor.permute(0, 3, 1, 2) if turned else tensor

    def compose(self, inner: IndexMap) -> IndexMap:
        """Host to target, from this map (host to middle) and `inner` (middle to target).

        Raises:
            WispError: `inner` reads from a network of another size than this map writes.
        """
        if inner.host_sizes != self.sizes:
            raise WispError(
                "these maps do not compose: the inner map's host has another size than this map's sub-network"
            )
        return IndexMap(self.groups, self.host_sizes, {g.name: self[g.name][inner[g.name]] for g in self.groups})

    def check(self) -> None:
        """Raise WispError unless every index vector is int64, sorted, distinct and in range."""
        for group in self.groups:
            _checked(group.name, self[group.name], self.host_sizes[group.name], self[group.name])

    def _is_full(self, layout: Layout) -> bool:
        return all(s.group is None or self[s.group].numel() == self.host_sizes[s.group] for s in layout)

    def _spread(self, layout: Layout) -> Tensor:
        return spread(layout, {s.group: self[s.group] for s in layout if s.group is not None}, self.host_sizes)


def spread(layout: Layout, indices: Mapping[str, Tensor], sizes: Mapping[str, int]) -> Tensor:
    """The entries of an axis that stand for the channels `indices` of its groups, int64, in the order of the axis.

    `sizes` are the channels that each group has on this axis. The order within a group is that of its indices.
    """
    parts, offset = [], 0
    device = next(iter(indices.values())).device
    for segment in layout:
        block = torch.arange(segment.block, device=device)
        if segment.group is None:
            parts.append(block + offset)
            offset += segment.block
        else:
            starts = indices[segment.group] * segment.block + offset
            parts.append((starts[:, None] + block).flatten())
            offset += sizes[segment.group] * segment.block
    return torch.cat(parts)


def _key(name: str) -> str:
    """A buffer's name must not hold a dot."""
    return name.replace(".", "__") or "_"


def _checked(name: str, indices: Tensor, size: int, like: Tensor) -> Tensor:
    if indices.dtype != torch.int64 or indices.shape != like.shape or indices.ndim != 1 or not indices.numel():
        raise WispError(f"{name}: expected {like.numel()} int64 indices, got {tuple(indices.shape)} of {indices.dtype}")
    if not (indices[0] >= 0 and indices[-1] < size and bool((indices[1:] > indices[:-1]).all())):
        raise WispError(f"{name}: indices must be sorted, distinct and below the host's {size} channels")
    return indices
