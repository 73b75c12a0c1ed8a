"""What each operation of torch does to the labels of its arguments; those that move entries: `rearrangements`."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from wisp.subnet.flow import Flow, is_pointwise, tensors_in
from wisp.subnet.labels import Mark
from wisp.subnet.rearrangements import REARRANGEMENTS, Rule, Values
from wisp.subnet.regroup import Dims

_UNCHANGED = {"detach", "alias", "clone", "_to_copy", "contiguous", "lift_fresh", "native_dropout"} | {
    "_softmax",
    "_log_softmax",
    "_safe_softmax",
}
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
    if getattr(flow.running, "groups", None) == groups:
        flow.note_attribute("groups", blocks[:, 0])
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


def _extreme(flow: Flow, v: Values, results: list[Tensor]) -> list[Dims]:
    """`max` and `min`: of two tensors entry by entry, of one along an axis (values and places) or of all entries."""
    if "other" in v:
        return [flow.broadcast([v["self"], v["other"]], results[0].shape)]
    return _reduction(flow, v, results) * len(results)


_RULES: dict[str, Rule] = {
    "convolution": _convolution,
    **dict.fromkeys(("mm", "bmm", "addmm", "baddbmm"), _matmul),
    "native_layer_norm": _layer_norm,
    "native_group_norm": _group_norm,
    **dict.fromkeys(("max", "min"), _extreme),
    **REARRANGEMENTS,
}
