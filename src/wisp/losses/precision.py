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
