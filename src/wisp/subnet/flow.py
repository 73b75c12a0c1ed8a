"""One run of a network in which every axis of every tensor carries labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from wisp.subnet.groups import UnsupportedStructure
from wisp.subnet.labels import FIXED, Labels, Mark, Vector
from wisp.subnet.regroup import Dims, Regrouping

# The names under which torch and timm keep a number of channels or heads that `forward` reads. A tensor's shape tells
# the rest. Anything that is missing here shows when the network is run at another width.
_COUNTS = ("num_heads", "heads", "n_heads", "n_head", "nhead", "attn_dim", "embed_dim", "out_chs", "dh")


Rules = Callable[["Flow", Any, dict[str, Any], list[Tensor]], list[Dims]]


class Flow(TorchDispatchMode):
    """Watches a network compute, and ties the labels of entries that an operation combines one to one.

    Every axis of every weight starts with labels of its own. `dims` holds them for each tensor, `attributes` the
    numbers that modules pass to shapes, with the labels of all axes that have this many entries.
    """

    def __init__(self, network: nn.Module, rules: Rules) -> None:
        """Watch `network` by `rules`, see `wisp.subnet.operations`; leaves hooks in the network."""
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        self._rules = rules
        self.labels = Labels()
        self.regroup = Regrouping(self.labels)
        self.attributes: dict[tuple[str, str], list[Vector]] = {}
        self.used: set[int] = set()
        self._dims: dict[int, Dims] = {}
        self._alive: list[Tensor] = []  # the keys of `_dims` must not be given to other tensors
        self._modules: list[tuple[str, nn.Module]] = [("", network)]
        for path, module in network.named_modules():
            module.register_forward_pre_hook(lambda m, _, path=path: self._modules.append((path, m)))
            module.register_forward_hook(lambda *_: self._leave())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation and give its results labels."""
        kwargs = kwargs or {}
        values = {argument.name: value for argument, value in zip(func._schema.arguments, args, strict=False)} | kwargs
        before = {id(tensor): tensor.shape for tensor in tensors_in(values.values())}
        output = func(*args, **kwargs)
        if any(key in self._dims for key in before):
            self.used |= before.keys()
            results = tensors_in([output])
            for tensor, dims in zip(results, self._rules(self, func, values, results), strict=False):
                self.set(tensor, dims)
                self._read_attributes(tensor, dims)
        return output

    def set(self, tensor: Tensor, dims: Dims) -> None:
        """Remember the labels of `tensor`."""
        assert len(dims) == tensor.ndim
        self._dims[id(tensor)] = dims
        self._alive.append(tensor)

    def dims(self, tensor: Tensor) -> Dims:
        """The labels of `tensor`; one that did not come from weights or the image is a constant."""
        if id(tensor) not in self._dims:
            self.set(tensor, [self.labels.fresh(size, Mark.READ) if size > 1 else None for size in tensor.shape])
        return self._dims[id(tensor)]

    def same(self, one: Vector | None, other: Vector | None) -> Vector | None:
        """Tie two axes that are combined entry by entry; the labels of the result."""
        if one is not None and other is not None and len(one) == len(other):
            self.labels.tie(one, other)
            return one
        for vector in (one, other):
            if vector is not None:
                self.labels.mark(vector, Mark.SIZE if len(vector) == 1 else Mark.POSITION)
        return None

    def broadcast(self, tensors: Sequence[Tensor], shape: Sequence[int]) -> Dims:
        """The labels of an entry-wise result of `shape`."""
        result: Dims = []
        for back in range(len(shape), 0, -1):
            vectors = []
            for tensor in tensors:
                if tensor.ndim < back:
                    continue
                vector = self.dims(tensor)[-back]
                if tensor.shape[-back] == shape[-back]:
                    vectors.append(vector)
                else:
                    self.mark([vector], Mark.SIZE)
            merged = vectors[0] if vectors else None
            for vector in vectors[1:]:
                merged = self.same(merged, vector)
            result.append(merged)
        return result

    def mark(self, dims: Dims, mark: Mark) -> Dims:
        """Mark all labels of these axes; what is left of them is axes without labels."""
        for vector in dims:
            if vector is not None:
                self.labels.mark(vector, mark)
        return [None] * len(dims)

    def places(self, dims: Dims) -> Dims:
        """Axes along which an operation reads neighbours or an index: no channels may lie there."""
        return self.mark(dims, Mark.READ)

    @property
    def running(self) -> nn.Module:
        """The innermost layer now running."""
        return self._modules[-1][1]

    def refuse(self, reason: str) -> UnsupportedStructure:
        """The error that names the layer now running."""
        path, module = self._modules[-1]
        return UnsupportedStructure(f"{path or type(module).__name__}: {type(module).__name__} {reason}")

    def _leave(self) -> None:
        self._modules.pop()

    def _read_attributes(self, tensor: Tensor, dims: Dims) -> None:
        module = self.running
        for vector in dims:
            if vector is None or bool(self.labels.has(vector, FIXED).all()):
                continue
            for name in _COUNTS:
                if type(count := getattr(module, name, None)) is int and count == len(vector):
                    self.note_attribute(name, vector)
            # A norm with a weight has its shape from that.
            if getattr(module, "normalized_shape", None) == (len(vector),) and getattr(module, "weight", None) is None:
                self.note_attribute("normalized_shape", vector)

    def note_attribute(self, name: str, vector: Vector) -> None:
        """Remember that the layer now running counts the entries of `vector` in its attribute `name`."""
        self.attributes.setdefault((self._modules[-1][0], name), []).append(vector)


def tensors_in(values: Any) -> list[Tensor]:
    """All tensors among arguments or results, lists included, in order."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += tensors_in(value)
    return found


def concatenated(labels: Labels, dims: Sequence[Vector | None], sizes: Sequence[int]) -> Vector | None:
    """The labels of axes laid one behind the other."""
    if all(vector is None for vector in dims):
        return None
    parts = zip(dims, sizes, strict=True)
    return np.concatenate([labels.fresh(size, Mark.POSITION) if vector is None else vector for vector, size in parts])


def is_pointwise(name: str) -> bool:
    """Whether torch itself says that an operation works entry by entry."""
    packet = getattr(torch.ops.aten, name, None)
    return packet is not None and any(
        torch.Tag.pointwise in getattr(packet, overload).tags for overload in packet.overloads()
    )
