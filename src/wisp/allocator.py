"""Memory that this process has freed: large tensors on a CPU need not come from the kernel anew each time."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Of malloc.h."""
_NEVER = -1
"""As a threshold; any number of bytes would be one that a large step frees."""


def keep_freed_memory() -> bool:
    """Has the C library keep what is freed, for the next tensor; whether it does.

    glibc maps every large block anew and unmaps it when it is freed, so that each activation of a step costs a page
    fault for every 4 KiB of it, and the kernel clears all of it first: a quarter of a step of a large network, and more
    of a frozen pass (docs/performance.md). The peak is higher, since holes stay. For processes that are wisp's own:
    the setting holds for everything that runs in one. macOS and musl have no such setting.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _NEVER))
