"""Which number format the training runs in."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import torch

from wisp.errors import WispError

Precision = Literal["auto", "fp32", "bf16", "fp16"]
FABRIC = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


@cache
def _cpu_has_fast_bf16() -> bool:
    """AMX or AVX512-BF16; without either, bf16 on a CPU is emulated and slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags


def resolve(precision: Precision, device: str) -> Literal["fp32", "bf16", "fp16"]:
    """`auto` made definite: bf16 where `device` (`cpu`, `cuda`, `mps`) computes it natively, else fp32.

    Raises:
        WispError: fp16 without CUDA.
    """
    if precision == "fp16" and device != "cuda":
        raise WispError("--precision fp16 needs CUDA; use bf16 or auto")
    if precision != "auto":
        return precision
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device == "cpu" and _cpu_has_fast_bf16() else "fp32"
