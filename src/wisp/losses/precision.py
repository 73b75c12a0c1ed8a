"""Losses are computed in float32 at least, also inside an autocast region; the factors of some products are rounded."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from threading import Lock
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

Inputs = ParamSpec("Inputs")
Result = TypeVar("Result")
HALF = (torch.float16, torch.bfloat16)


def full_precision(loss: Callable[Inputs, Result]) -> Callable[Inputs, Result]:
    """Raises half-precision tensors to float32 and switches autocast off; float64 stays as it is."""

    @wraps(loss)
    def computed(*arguments: Inputs.args, **options: Inputs.kwargs) -> Result:
        raised: Any = [a.float() if isinstance(a, Tensor) and a.dtype in HALF else a for a in arguments]
        device = next(a.device.type for a in raised if isinstance(a, Tensor))
        if not torch.amp.is_autocast_available(device):
            return loss(*raised, **options)
        with torch.autocast(device, enabled=False):
            return loss(*raised, **options)

    return computed


class _Rounding:
    """The process's setting for products of float32 matrices on a CPU: the first to ask sets it, the last resets it."""

    def __init__(self) -> None:
        self.lock, self.depth, self.before = Lock(), 0, "none"

    def __enter__(self) -> None:
        with self.lock:
            self.depth += 1
            if self.depth == 1 and (products := _products()) is not None:
                self.before, products.fp32_precision = products.fp32_precision, "bf16"

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.depth -= 1
            if self.depth == 0 and (products := _products()) is not None:
                products.fp32_precision = "none"
                if products.fp32_precision != self.before:  # else it was inherited, and stays so
                    products.fp32_precision = self.before


def _products() -> Any:
    """Where oneDNN's setting is, or None before torch 2.9."""
    return getattr(torch.backends.mkldnn, "matmul", None)


_ROUNDING = _Rounding()


def rounding_factors(loss: Callable[Inputs, Result]) -> Callable[Inputs, Result]:
    """Inside an autocast region on a CPU, matrix products round their factors to bf16 and add up in float32.

    For a loss whose time is its products, of embeddings that come from the networks rounded so; outermost of its
    decorators. A CPU that multiplies bf16 (AMX) is several times as fast so; others compute as ever, and so does torch
    before 2.9. The setting is the process's: products of other threads are rounded meanwhile.
    """

    @wraps(loss)
    def computed(*arguments: Inputs.args, **options: Inputs.kwargs) -> Result:
        if not torch.is_autocast_enabled("cpu"):
            return loss(*arguments, **options)
        with _ROUNDING:
            return loss(*arguments, **options)

    return computed
