"""Channel groups: which axes of which tensors must share one index vector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn

from wisp.errors import WispError


class UnsupportedStructure(WispError):
    """A network holds a structure that channel groups cannot describe; the text names the layer and says why."""


@dataclass(frozen=True)
class Axis:
    """One axis of one parameter or BatchNorm buffer, by its `state_dict` name."""

    tensor: str
    dim: int


@dataclass(frozen=True)
class Group:
    """Axes that share one index vector, for instance all convolutions summed by a residual.

    `name` is the module path of the group's first producer; `size` is the number of channels in the traced network.
    """

    name: str
    size: int
    axes: tuple[Axis, ...]


@dataclass(frozen=True)
class ChannelGroups:
    """All channel groups of one topology. An axis that is in no group is fixed: it has the same size at every width.

    The groups (names and axes) hold for every network of this topology, whatever its width; only `sizes` belongs to the
    traced one, see `sizes_in`.
    """

    groups: tuple[Group, ...]

    def __iter__(self) -> Iterator[Group]:
        return iter(self.groups)

    def __len__(self) -> int:
        return len(self.groups)

    @cached_property
    def by_tensor(self) -> dict[str, dict[int, str]]:
        """Tensor name -> {axis: group name}, for every tensor with at least one axis in a group."""
        table: dict[str, dict[int, str]] = {}
        for group in self.groups:
            for axis in group.axes:
                table.setdefault(axis.tensor, {})[axis.dim] = group.name
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
        tensors = tensors_of(network)
        sizes: dict[str, int] = {}
        for group in self.groups:
            for axis in group.axes:
                if axis.tensor not in tensors:
                    raise WispError(f"{axis.tensor} is missing: the network does not have the topology that was traced")
                size = tensors[axis.tensor].shape[axis.dim]
                if sizes.setdefault(group.name, size) != size:
                    raise WispError(
                        f"{axis.tensor} has {size} channels on axis {axis.dim}, its group {group.name} has "
                        f"{sizes[group.name]}: resize networks with wisp.subnet.resize.resized only"
                    )
        return sizes


def tensors_of(network: nn.Module) -> Mapping[str, Tensor]:
    """Every parameter and buffer of `network` by name, also the buffers that `state_dict` leaves out."""
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}
