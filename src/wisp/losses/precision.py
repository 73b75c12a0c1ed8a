"""Losses are computed in float32 at least, also inside an autocast region."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
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


def rounding_factors(loss: Callable[Inputs, Result]) -> Callable[Inputs, Result]:
    """Inside an autocast region on a CPU, matrix products round their factors to bf16 and add up in float32.

    For a loss whose time is its products, of embeddings that come from the networks rounded so; outermost of its
    decorators. A CPU with AMX is several times as fast so; one without, and a torch before 2.9, compute as ever.
    """

    @wraps(loss)
    def computed(*arguments: Inputs.args, **options: Inputs.kwargs) -> Result:
        products = getattr(torch.backends.mkldnn, "matmul", None)
        if products is None or not torch.is_autocast_enabled("cpu"):
            return loss(*arguments, **options)
        before = products.fp32_precision
        products.fp32_precision = "bf16"
        try:
            return loss(*arguments, **options)
        finally:
            products.fp32_precision = before

    return computed
