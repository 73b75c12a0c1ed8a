"""Freed memory: where the C library can keep it, a large array costs page faults once."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from wisp.allocator import keep_freed_memory

PAGES = 64 * 2**20 // 4096
"""Of the array that the child makes again and again; larger than anything glibc keeps by itself."""
CHILD = """
import resource, sys
import numpy as np
from wisp.allocator import keep_freed_memory

if "keep" in sys.argv:
    keep_freed_memory()
np.ones(64 * 2**20, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    np.ones(64 * 2**20, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*words: str) -> int:
    done = subprocess.run([sys.executable, "-c", CHILD, *words], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_kept_memory_is_not_mapped_again() -> None:
    kept = keep_freed_memory()
    assert kept == (platform.libc_ver()[0] == "glibc")
    if kept:
        assert faults("keep") < PAGES // 100


def test_a_system_without_the_setting_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert not keep_freed_memory()
