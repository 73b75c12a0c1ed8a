"""Channel groups: which axes of which tensors must share one index vector, and how its channels lie on each axis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn

from wisp.errors import WispError


class UnsupportedStructure(WispError):
    """A network holds a structure that channel groups cannot describe; the text names the layer and says why."""


@dataclass(frozen=True)
class Segment:
    """A stretch of an axis: all channels of one group in order, `block` consecutive entries for each.

    `block` is 1 for a plain axis, the head dimension for attention heads, the group width for a grouped convolution,
    and height times width for a flattened map. Without a group the segment is `block` entries that never change.
    """

    group: str | None
    block: int = 1


Layout = tuple[Segment, ...]
"""An axis from its first entry to its last: several segments for a concatenation, or for queries, keys and values."""


@dataclass(frozen=True)
class Axis:
    """One axis of one parameter or BatchNorm buffer, by its `state_dict` name.

    `layout` is empty for an axis that is just the channels of its group. An axis of several groups is in each of them.
    """

    tensor: str
    dim: int
    layout: Layout = ()


@dataclass(frozen=True)
class Group:
    """Axes that share one index vector, for instance all convolutions summed by a residual.

    `name` is the module path of the group's first producer. `size` is the number of channels in the traced network; a
    group of attention heads, or of the groups of a grouped convolution, counts those. Heads are `whole`: together they
    are as wide as something else, so that no width may round their number.
    """

    name: str
    size: int
    axes: tuple[Axis, ...]
    whole: bool = False


@dataclass(frozen=True)
class Attribute:
    """A number that the code of a module reads, such as `num_heads`, and that must follow the width."""

    module: str
    name: str
    layout: Layout


@dataclass(frozen=True)
class ChannelGroups:
    """All channel groups of one topology. An axis that is in no group is fixed: it has the same size at every width.

    The groups (names, axes and layouts) hold for every network of this topology, whatever its width; only `sizes`
    belongs to the traced one, see `sizes_in`.
    """

    groups: tuple[Group, ...]
    attributes: tuple[Attribute, ...] = ()

    def __iter__(self) -> Iterator[Group]:
        return iter(self.groups)

    def __len__(self) -> int:
        return len(self.groups)

    @cached_property
    def by_tensor(self) -> dict[str, dict[int, Layout]]:
        """Tensor name -> {axis: layout}, for every tensor with at least one axis in a group."""
        table: dict[str, dict[int, Layout]] = {}
        for group in self.groups:
            for axis in group.axes:
                layout = axis.layout or (Segment(group.name),)
                if table.setdefault(axis.tensor, {}).setdefault(axis.dim, layout) != layout:
                    raise WispError(f"{axis.tensor}: axis {axis.dim} is in two groups; trace the network again")
        return table

    @property
    def sizes(self) -> dict[str, int]:
        """Group name -> channels in the traced network."""
        return {group.name: group.size for group in self.groups}

    def sizes_in(self, network: nn.Module) -> dict[str, int]:
        """Group name -> channels in `network`, which has the traced topology at any width.

        Raises:
            WispError: a tensor is missing, or the axes of one group disagree in size.
        """
        tensors, axes = tensors_of(network), []
        for name, layouts in self.by_tensor.items():
            if name not in tensors:
                raise WispError(f"{name} is missing: the network does not have the topology that was traced")
            axes += [(name, dim, tensors[name].shape[dim], layout) for dim, layout in layouts.items()]
        sizes: dict[str, int] = {}
        # An axis of several groups tells the size of one when those of the others are known.
        for _ in self.groups:
            known = len(sizes)
            for _, _, total, layout in axes:
                _solve(layout, total, sizes)
            if len(sizes) in (known, len(self.groups)):
                break
        for name, dim, total, layout in axes:
            if any(segment.group not in (None, *sizes) for segment in layout) or length(layout, sizes) != total:
                groups = ", ".join(dict.fromkeys(f"{s.group} has {sizes.get(s.group)}" for s in layout if s.group))
                raise WispError(
                    f"{name} has {total} channels on axis {dim}, its group {groups}: "
                    "resize networks with wisp.subnet.resize.resized only"
                )
        return sizes


def length(layout: Layout, sizes: Mapping[str, int]) -> int:
    """Entries of an axis with this layout, where groups have `sizes`."""
    return sum(segment.block * (1 if segment.group is None else sizes[segment.group]) for segment in layout)


def tensors_of(network: nn.Module) -> Mapping[str, Tensor]:
    """Every parameter and buffer of `network` by name, also the buffers that `state_dict` leaves out."""
    return {**dict(network.named_parameters()), **dict(network.named_buffers(remove_duplicate=False))}


def _solve(layout: Layout, total: int, sizes: dict[str, int]) -> None:
    """Add the size of the one group in `layout` that is not known yet."""
    unknown = {segment.group for segment in layout if segment.group is not None and segment.group not in sizes}
    if len(unknown) == 1:
        (group,) = unknown
        rest = total - length(tuple(segment for segment in layout if segment.group != group), sizes)
        sizes[group] = rest // sum(segment.block for segment in layout if segment.group == group)
