"""FLOPs, activations and parameters of one real training step, by branch, without computing it.

The step runs on the meta device: shapes only, no data, no time. A branch is an outermost module call of a method's
forward (`host`, `slim`, `network`, ...); calls without a gradient are frozen passes; what is left of the forward is
the loss.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from wisp.data.loader import Batch
from wisp.methods.method import Method


@dataclass(frozen=True)
class StepCost:
    """Cost of one training step over the global batch.

    Attributes:
        branches: floating-point operations (one multiply-add is two) of each branch's forward, of the `loss`, and of
        `backward`. flops: their sum. activations: outputs of all convolutions and matrix products in the forward passes
        and the loss (numbers, not bytes). parameters: trained parameters, heads included.
    """

    branches: dict[str, int]
    flops: int
    activations: int
    parameters: int


@dataclass(frozen=True)
class TrainingCost:
    """Cost of all steps.

    Attributes:
        step: one step of the last phase.
        flops: of all steps, each in its own phase.
    """

    step: StepCost
    flops: int


def count_training(method: Method, batch_size: int, image_size: int, steps: int) -> TrainingCost:
    """Counts a step of every phase of `method`; arguments as `count_step`."""
    starts = method.phases()
    bounds = [math.ceil(start * steps) for start in (*starts, 1.0)]  # step s trains at progress s / steps
    each = [count_step(method, batch_size, image_size, start) for start in starts]
    return TrainingCost(
        each[-1], sum(cost.flops * (b - a) for cost, (a, b) in zip(each, pairwise(bounds), strict=True))
    )


def count_step(method: Method, batch_size: int, image_size: int, progress: float = 0.99) -> StepCost:
    """Counts one step of `method` at the global batch size.

    Args:
        method: is left untouched.
        batch_size: global batch.
        image_size: side of the encoder's images in pixels; each view has its own part of it.
        progress: which phase is counted.
    """
    shadow = copy.deepcopy(method).to("meta").train()
    sides = method.views.pixels(image_size)
    views = tuple(torch.empty(batch_size, 3, side, side, device="meta") for side in sides)
    index = torch.empty(batch_size, dtype=torch.int64, device="meta")
    remembered = torch.empty(batch_size, method.remembers, device="meta") if method.remembers else None
    batch = Batch(views, index, index, views if method.neighbours else (), remembered)
    counter, outputs = _counter(), _Outputs()
    with counter, outputs, _branches(shadow, counter) as branches:
        loss = torch.stack(list(shadow(batch, progress).values())).sum()
        forward, activations = counter.get_total_flops(), outputs.numbers
        branches["loss"] = forward - branches.total()
        loss.backward()
        branches["backward"] = counter.get_total_flops() - forward
    return StepCost(
        branches=dict(branches),
        flops=branches.total(),
        activations=activations,
        parameters=sum(p.numel() for p in method.parameters() if p.requires_grad),
    )


def count_forward(encoder: nn.Module, image_size: int) -> int:
    """Floating-point operations of an encoder's forward pass over one image."""
    shadow = copy.deepcopy(encoder).to("meta").eval()
    with _counter() as counter, torch.no_grad():
        shadow(torch.empty(1, 3, image_size, image_size, device="meta"))
    return int(counter.get_total_flops())


def _counter() -> FlopCounterMode:
    """Torch's counter, but for one formula: its weight gradient of a grouped convolution counts all groups' pairs."""
    return FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: _convolution_backward})


def _convolution_backward(
    grad_shape: list[int],
    x_shape: list[int],
    w_shape: list[int],
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    wanted: list[bool],
    **_: Any,
) -> int:
    """Each of the gradients, to the input and to the weight, costs what the forward pass did."""
    return conv_flop_count(x_shape, w_shape, grad_shape, transposed) * sum(wanted[:2])


@contextmanager
def _branches(method: Method, counter: FlopCounterMode) -> Iterator[Counter[str]]:
    """Adds up the operations inside every outermost module call."""
    found: Counter[str] = Counter()
    inside: list[int] = []

    def enter(*_: Any) -> None:
        inside.append(counter.get_total_flops())

    def leave(name: str) -> Any:
        def hook(*_: Any) -> None:
            before = inside.pop()
            if not inside:
                label = name if torch.is_grad_enabled() else f"frozen {name}"
                found[label] += counter.get_total_flops() - before

        return hook

    handles = []
    for name, module in method.named_modules():
        if module is not method:
            handles.append(module.register_forward_pre_hook(enter))
            handles.append(module.register_forward_hook(leave(_called(name))))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _called(path: str) -> str:
    """The last part of a module's path that is a name and not a place in a sequence."""
    return next((part for part in reversed(path.split(".")) if not part.isdigit()), path)


class _Outputs(TorchDispatchMode):
    """Counts the outputs of convolutions and matrix products while it is active."""

    _PACKETS = (torch.ops.aten.convolution, torch.ops.aten.addmm, torch.ops.aten.mm, torch.ops.aten.bmm)

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with self:  # a teacher in inference mode calls operations that consist of others
            parts = func.decompose(*args, **(kwargs or {}))
        if parts is not NotImplemented:
            return parts
        output = func(*args, **(kwargs or {}))
        if func.overloadpacket in self._PACKETS and isinstance(output, Tensor):
            self.numbers += output.numel()
        return output
