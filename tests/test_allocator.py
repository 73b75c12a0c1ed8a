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
import ctypes, resource, sys
import numpy as np
from wisp.allocator import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

print(int("keep" in sys.argv and keep_freed_memory()))
np.ones(64 * 2**20, np.uint8)
before = faults()
for _ in range(4):
    np.ones(64 * 2**20, np.uint8)
print(faults() - before)
break_of = ctypes.CDLL(None).sbrk
break_of.restype, break_of.argtypes = ctypes.c_void_p, [ctypes.c_ssize_t]
before = break_of(0)
np.empty(3 * 2**30, np.uint8)  # its pages are never touched
print((break_of(0) - before) >> 20)
"""


def child(*words: str) -> tuple[int, int, int]:
    """Whether memory is kept, page faults of four arrays, and MiB of a freed array of 3 GiB that stay."""
    done = subprocess.run([sys.executable, "-c", CHILD, *words], capture_output=True, text=True, check=True)
    kept, faults, stays = map(int, done.stdout.split())
    return kept, faults, stays


def test_kept_memory_is_not_mapped_again() -> None:
    """However large the array is."""
    kept, faults, stays = child("keep")
    assert kept == (platform.libc_ver()[0] == "glibc")
    if not kept:
        return
    assert faults < PAGES // 100
    assert stays > 2900
    assert child()[1] > 10 * faults, "without the setting they come again"


def test_a_system_without_the_setting_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert not keep_freed_memory()
