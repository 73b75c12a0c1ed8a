"""The number format, made definite."""

from __future__ import annotations

import pytest
import torch

from wisp.errors import WispError
from wisp.train import precision
from wisp.train.precision import resolve


@pytest.mark.parametrize(("fast", "wanted"), [(True, "bf16"), (False, "fp32")])
def test_auto_on_a_cpu(fast: bool, wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_cpu_has_fast_bf16", lambda: fast)
    assert resolve("auto", "cpu") == wanted
    assert resolve("auto", "mps") == "fp32"


@pytest.mark.parametrize(("native", "wanted"), [(True, "bf16"), (False, "fp32")])
def test_auto_on_cuda(native: bool, wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    assert resolve("auto", "cuda") == wanted


def test_a_wish_is_followed() -> None:
    for device in ("cpu", "cuda", "mps"):
        assert resolve("fp32", device) == "fp32"
        assert resolve("bf16", device) == "bf16"
    assert resolve("fp16", "cuda") == "fp16"


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_fp16_needs_cuda(device: str) -> None:
    with pytest.raises(WispError, match="--precision fp16 needs CUDA; use bf16 or auto"):
        resolve("fp16", device)


@pytest.mark.parametrize(
    ("flags", "wanted"), [("flags: sse2 amx_bf16", True), ("flags: avx512_bf16", True), ("flags: avx2 avx512f", False)]
)
def test_what_a_processor_says(flags: str, wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision.Path, "read_text", lambda self, **options: flags)
    assert precision._cpu_has_fast_bf16.__wrapped__() is wanted


def test_a_system_without_cpuinfo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "Path", lambda name: type("Missing", (), {"read_text": _absent})())
    assert precision._cpu_has_fast_bf16.__wrapped__() is False


def _absent(self: object, **options: str) -> str:
    raise FileNotFoundError
