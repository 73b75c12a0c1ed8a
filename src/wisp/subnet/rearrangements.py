"""What the operations of torch that only move or repeat entries do to the labels of their arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from wisp.subnet.flow import Flow, concatenated
from wisp.subnet.labels import Mark
from wisp.subnet.regroup import Dims

Values = dict[str, Any]
Rule = Callable[[Flow, Values, list[Tensor]], list[Dims]]
"""Of the watcher, the arguments by name and the results: the labels of each result."""


def _view(flow: Flow, v: Values, results: list[Tensor]) -> list[Dims]:
    return [flow.regroup(flow.dims(v["self"]), v["self"].shape, results[0].shape)]


def _expand(flow: Flow, v: Values, results: list[Tensor]) -> list[Dims]:
    x, shape = flow.dims(v["self"]), results[0].shape
    added = len(shape) - len(x)
    sizes = [1] * added + list(v["self"].shape)
    padded: Dims = [*[None] * added, *x]
    out: Dims = []
    for vector, old, new in zip(padded, sizes, shape, strict=True):
        if old != new:
            flow.mark([vector], Mark.SIZE)
        # Copies are all alike: they go along with whatever they meet.
        out.append(vector if old == new else flow.labels.fresh(new))
    return [out]


def _permute(flow: Flow, v: Values, results: list[Tensor]) -> list[Dims]:
    x = flow.dims(v["self"])
    return [[x[d] for d in v["dims"]]]


def _transpose(flow: Flow, v: Values, results: list[Tensor]) -> list[Dims]:
    x = list(flow.dims(v["self"]))
    if len(x) > 1:
        one, other = v.get("dim0", 0), v.get("dim1", 1)
        x[one], x[other] = x[other], x[one]
    return [x]


def _unsqueeze(flow: Flow, v: Values, results: list[Tensor]) -> list[Dims]:
    x = list(flow.dims(v["self"]))
    x.insert(v["dim"] % results[0].ndim, None)
    return [x]


def _cat(flow: Flow, v: Values, results: list[Tensor]) -> list[Dims]:
    parts = [tensor for tensor in v["tensors"] if tensor.ndim == results[0].ndim]
    dim = v.get("dim", 0) % results[0].ndim
    out = list(flow.dims(parts[0]))
    for tensor in parts[1:]:
        pairs = enumerate(zip(out, flow.dims(tensor), strict=True))
        out = [a if at == dim else flow.same(a, b) for at, (a, b) in pairs]
    out[dim] = concatenated(flow.labels, [flow.dims(t)[dim] for t in parts], [t.shape[dim] for t in parts])
    return [out]


def _stack(flow: Flow, v: Values, results: list[Tensor]) -> list[Dims]:
    """The tensors' axes are tied; along the new one they are told from each other, and nothing has a width there."""
    out = list(flow.dims(v["tensors"][0]))
    for tensor in v["tensors"][1:]:
        out = [flow.same(a, b) for a, b in zip(out, flow.dims(tensor), strict=True)]
    out.insert(v.get("dim", 0) % results[0].ndim, None)
    return [out]


def _repeat(flow: Flow, v: Values, results: list[Tensor]) -> list[Dims]:
    """Several times the same channels lie one behind the other; of one entry it is an `expand`."""
    x, sizes = flow.dims(v["self"]), list(v["self"].shape)
    added = len(v["repeats"]) - len(x)
    out: Dims = []
    for vector, size, times in zip([*[None] * added, *x], [1] * added + sizes, v["repeats"], strict=True):
        if times == 1:
            out.append(vector)
        elif size == 1:
            flow.mark([vector], Mark.SIZE)
            out.append(flow.labels.fresh(times))
        else:
            out.append(None if vector is None else np.tile(vector, times))
    return [out]


def _slices(flow: Flow, v: Values, results: list[Tensor]) -> list[Dims]:
    """`slice`, `split` and `narrow` by the sizes that came out."""
    x, dim = flow.dims(v["self"]), v.get("dim", 0)
    dim, size = dim % len(x), v["self"].shape[dim]
    start, step = v.get("start") or 0, v.get("step", 1)
    start = min(max(start + size if start < 0 else start, 0), size)
    out = []
    for result in results:
        dims, vector = list(x), x[dim]
        if vector is not None:
            dims[dim] = vector[start : start + step * result.shape[dim] : step]
        start += step * result.shape[dim]
        out.append(dims)
    return out


def _select(flow: Flow, v: Values, results: list[Tensor]) -> list[Dims]:
    """`select` and `unbind`: entries of an axis go different ways."""
    x = list(flow.dims(v["self"]))
    flow.places([x.pop(v.get("dim", 0) % len(x))])
    return [x for _ in results]


def _index(flow: Flow, v: Values, results: list[Tensor]) -> list[Dims]:
    x, indices = flow.dims(v["self"]), v["indices"]
    at = [k for k, index in enumerate(indices) if index is not None]
    flow.places([x[k] for k in at])
    kept: Dims = [vector for k, vector in enumerate(x) if k not in at]
    together = at == list(range(at[0], at[-1] + 1))
    front = at[0] if together else 0
    return [kept[:front] + [None] * (results[0].ndim - len(kept)) + kept[front:]]


def _index_select(flow: Flow, v: Values, results: list[Tensor]) -> list[Dims]:
    x, dim = list(flow.dims(v["self"])), v["dim"]
    x[dim] = flow.places([x[dim]])[0]
    return [x]


def _pad(flow: Flow, v: Values, results: list[Tensor]) -> list[Dims]:
    out = list(flow.dims(v["self"]))
    for back in range(len(v["pad"]) // 2):
        vector, (left, right) = out[-1 - back], v["pad"][2 * back : 2 * back + 2]
        if vector is not None and (left < 0 or right < 0):
            raise flow.refuse("is not supported (it crops channels)")
        if vector is not None:
            ends = [flow.labels.fresh(width, Mark.READ) for width in (left, right)]
            out[-1 - back] = np.concatenate([ends[0], vector, ends[1]])
    return [out]


def _roll(flow: Flow, v: Values, results: list[Tensor]) -> list[Dims]:
    out = list(flow.dims(v["self"]))
    dims: Sequence[int] = v.get("dims", [])
    flow.places([out[d] for d in dims] if dims else out)
    return [out]


def _as_strided(flow: Flow, v: Values, results: list[Tensor]) -> list[Dims]:
    """Only what leaves every axis in its place, as pooling does to a channels_last map of one pixel."""
    x = flow.dims(v["self"])
    if len(x) != results[0].ndim or any(
        d is not None and len(d) != n for d, n in zip(x, results[0].shape, strict=True)
    ):
        raise flow.refuse("is not supported (as_strided)")
    return [x]


REARRANGEMENTS: dict[str, Rule] = {
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "_reshape_alias", "squeeze"), _view),
    "expand": _expand,
    "permute": _permute,
    **dict.fromkeys(("transpose", "t"), _transpose),
    "unsqueeze": _unsqueeze,
    "cat": _cat,
    "stack": _stack,
    "repeat": _repeat,
    **dict.fromkeys(("slice", "split", "split_with_sizes", "unsafe_split", "narrow"), _slices),
    **dict.fromkeys(("select", "unbind"), _select),
    "index": _index,
    "index_select": _index_select,
    "constant_pad_nd": _pad,
    "as_strided": _as_strided,
    **dict.fromkeys(("roll", "flip"), _roll),
}
