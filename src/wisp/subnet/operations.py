"""What each operation of torch does to the labels of its arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from wisp.subnet.flow import Flow, concatenated, is_pointwise, tensors_in
from wisp.subnet.labels import Mark
from wisp.subnet.regroup import Dims

Values = dict[str, Any]
Rule = Callable[[Flow, Values, list[Tensor]], list[Dims]]

_UNCHANGED = {"detach", "alias", "clone", "_to_copy", "contiguous", "lift_fresh", "_softmax", "native_dropout"}
_POINTWISE = {"hardswish", "copy", "_prelu_kernel"}  # of which torch does not say it
_REDUCTIONS = {"mean", "sum", "amax", "amin", "var", "std", "linalg_vector_norm", "norm", "prod"}
_CONSTANT = {"zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like"} | {
    "new_zeros",
    "new_ones",
    "new_empty",
    "new_full",
}


def result_dims(flow: Flow, func: Any, values: Values, results: list[Tensor]) -> list[Dims]:
    """The labels of each result of `func`, called with the arguments `values`.

    Raises:
        UnsupportedStructure: no rule says what the operation does to channels; names the layer.
    """
    name = func._schema.name.split("::")[1]
    name = name.removesuffix("_") if func._schema.is_mutable else name
    if name in _CONSTANT:
        return []
    if name in _RULES:
        return _RULES[name](flow, values, results)
    if name.startswith("_scaled_dot_product"):
        return _attention(flow, values, results)
    if "batch_norm" in name:
        return _batch_norm(flow, values, results)
    if name in _REDUCTIONS:
        return _reduction(flow, values, results)
    if "pool" in name or name.startswith("upsample"):
        return _pool(flow, values, results)
    if name in _UNCHANGED:
        return [flow.dims(tensors_in(values.values())[0])]
    if name in _POINTWISE or is_pointwise(name):
        return [flow.broadcast(tensors_in(values.values()), results[0].shape)]
    raise flow.refuse(f"is not supported ({name})")


def _convolution(flow: Flow, v: Values, results: list[Tensor]) -> list[Dims]:
    x, weight = flow.dims(v["input"]), flow.dims(v["weight"])
    if v["transposed"]:
        raise flow.refuse("is not supported (transposed convolution)")
    flow.mark(weight[2:], Mark.SIZE)
    flow.places(x[2:])
    if v["groups"] == 1:
        flow.same(x[1], weight[1])
    else:
        flow.mark(weight[1:2], Mark.SIZE)
        _tie_groups(flow, x[1:2], weight[:1], v["groups"])
    if v["bias"] is not None:
        flow.same(flow.dims(v["bias"])[0], weight[0])
    return [[x[0], weight[0], *[None] * (len(x) - 2)]]


def _tie_groups(flow: Flow, inputs: Dims, outputs: Dims, groups: int) -> None:
    """A group of a convolution keeps its width: its channels on both sides are selected as one."""
    (x,), (out,) = inputs, outputs
    assert out is not None
    blocks = out.reshape(groups, -1)
    flow.labels.tie(blocks, blocks[:, :1])
    if x is None:
        flow.mark(outputs, Mark.POSITION)
    else:
        flow.labels.tie(x.reshape(groups, -1), blocks[:, :1])


def _matmul(flow: Flow, v: Values, results: list[Tensor]) -> list[Dims]:
    first, second = ("mat1", "mat2") if "mat1" in v else ("self", "mat2")
    first, second = ("batch1", "batch2") if "batch1" in v else (first, second)
    a, b = flow.dims(v[first]), flow.dims(v[second])
    flow.same(a[-1], b[-2])
    out: Dims = [*([flow.same(a[0], b[0])] if len(a) == 3 else []), a[-2], b[-1]]
    if first != "self" and "self" in v:
        flow.set(results[0], out)
        out = flow.broadcast([results[0], v["self"]], results[0].shape)
    return [out]


def _attention(flow: Flow, v: Values, results: list[Tensor]) -> list[Dims]:
    tensors = [v["query"], v["key"], v["value"]]
    q, k, value = (flow.dims(tensor) for tensor in tensors)
    flow.same(q[-1], k[-1])
    flow.same(k[-2], value[-2])
    flow.places([q[-2], k[-2]])
    mask = next((v[name] for name in ("attn_mask", "attn_bias") if v.get(name) is not None), None)
    if mask is not None:
        flow.places(flow.dims(mask)[-2:])
        tensors.append(mask)
    # Batch and heads may be broadcast: keys that all heads share, a mask for all images.
    stubs = [_without(flow, tensor, 2) for tensor in tensors]
    return [[*flow.broadcast(stubs, v["query"].shape[:-2]), None, value[-1]]]


def _without(flow: Flow, tensor: Tensor, last: int) -> Tensor:
    """A tensor that has the axes of `tensor` but the `last` ones."""
    stub = tensor.new_empty(tensor.shape[: tensor.ndim - last], device="meta")
    flow.set(stub, flow.dims(tensor)[: tensor.ndim - last])
    return stub


def _batch_norm(flow: Flow, v: Values, results: list[Tensor]) -> list[Dims]:
    x = flow.dims(v["input"])
    for name in ("weight", "bias", "running_mean", "running_var"):
        if v.get(name) is not None:
            flow.same(flow.dims(v[name])[0], x[1])
    return [x]


def _layer_norm(flow: Flow, v: Values, results: list[Tensor]) -> list[Dims]:
    x = flow.dims(v["input"])
    for name in ("weight", "bias"):
        if v.get(name) is not None:
            for back, vector in enumerate(reversed(flow.dims(v[name])), start=1):
                flow.same(vector, x[-back])
    return [x]


def _group_norm(flow: Flow, v: Values, results: list[Tensor]) -> list[Dims]:
    if v["group"] != 1:
        raise flow.refuse(f"is not supported with {v['group']} groups (one group is, and BatchNorm and LayerNorm are)")
    return _batch_norm(flow, v, results)


def _reduction(flow: Flow, v: Values, results: list[Tensor]) -> list[Dims]:
    x = flow.dims(v["self"])
    dim: Any = v.get("dim")
    along: list[int] = dim if isinstance(dim, list) else [] if dim is None else [dim]
    gone = {d % len(x) for d in along} or set(range(len(x)))
    if results[0].ndim == len(x):
        return [[None if at in gone else vector for at, vector in enumerate(x)]]
    return [[vector for at, vector in enumerate(x) if at not in gone]]


def _pool(flow: Flow, v: Values, results: list[Tensor]) -> list[Dims]:
    x = flow.dims(v["self"] if "self" in v else v["input"])
    flow.places(x[2:])
    return [[*x[:2], *[None] * (len(x) - 2)] for _ in results]


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


def _extreme(flow: Flow, v: Values, results: list[Tensor]) -> list[Dims]:
    """`max` and `min`: of two tensors entry by entry, of one along an axis (values and places) or of all entries."""
    if "other" in v:
        return [flow.broadcast([v["self"], v["other"]], results[0].shape)]
    return _reduction(flow, v, results) * len(results)


def _as_strided(flow: Flow, v: Values, results: list[Tensor]) -> list[Dims]:
    """Only what leaves every axis in its place, as pooling does to a channels_last map of one pixel."""
    x = flow.dims(v["self"])
    if len(x) != results[0].ndim or any(
        d is not None and len(d) != n for d, n in zip(x, results[0].shape, strict=True)
    ):
        raise flow.refuse("is not supported (as_strided)")
    return [x]


_RULES: dict[str, Rule] = {
    "convolution": _convolution,
    **dict.fromkeys(("mm", "bmm", "addmm", "baddbmm"), _matmul),
    "native_layer_norm": _layer_norm,
    "native_group_norm": _group_norm,
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "_reshape_alias", "squeeze"), _view),
    "expand": _expand,
    "permute": _permute,
    **dict.fromkeys(("transpose", "t"), _transpose),
    "unsqueeze": _unsqueeze,
    "cat": _cat,
    **dict.fromkeys(("slice", "split", "split_with_sizes", "unsafe_split", "narrow"), _slices),
    **dict.fromkeys(("select", "unbind"), _select),
    "index": _index,
    "index_select": _index_select,
    "constant_pad_nd": _pad,
    "as_strided": _as_strided,
    **dict.fromkeys(("max", "min"), _extreme),
    **dict.fromkeys(("roll", "flip"), _roll),
}
