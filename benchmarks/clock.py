"""How every ratio here is measured: contenders take turns in one process, and a repeat is compared with itself."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from wisp.train.environment import commit, hardware

Times = dict[str, list[float]]
"""Contender -> seconds, one number a repeat."""


def confine(threads: int) -> None:
    """Gives this process and its children `threads` threads, and on Linux as many cores: data workers get no more."""
    torch.set_num_threads(threads)
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[:threads])


def interleaved(contenders: Mapping[str, Callable[[], object]], *, repeats: int, warmup: int) -> Times:
    """Seconds of every contender, in turns; every other repeat in the opposite order.

    Args:
        contenders: name -> what to time.
        repeats: turns of each that count.
        warmup: turns of each before them.
    """
    times: Times = {name: [] for name in contenders}
    for repeat in range(-warmup, repeats):
        for name in list(contenders)[:: -1 if repeat % 2 else 1]:
            start = time.perf_counter()
            contenders[name]()
            if repeat >= 0:
                times[name].append(time.perf_counter() - start)
    return times


def ratio(times: Times, ours: str, theirs: str) -> float:
    """Median over the repeats of each repeat's own ratio: a machine that slows down slows down both."""
    return round(statistics.median(a / b for a, b in zip(times[ours], times[theirs], strict=True)), 3)


def seconds(times: Times) -> dict[str, float]:
    """Median seconds by contender."""
    return {name: round(statistics.median(values), 4) for name, values in times.items()}


def surroundings(bench: str, *, repeats: int, packages: tuple[str, ...] = ()) -> dict[str, Any]:
    """What every line says about where it was measured: no path, no host."""
    versions = {name: metadata.version(name) for name in ("torch", *packages)}
    about = hardware(torch.device("cpu"))
    return {
        "bench": bench,
        "repeats": repeats,
        "threads": torch.get_num_threads(),
        "cpu": about["name"],
        "amx": has_amx(),
        "load": round(os.getloadavg()[0], 1),
        "commit": commit(),
        "versions": versions,
    }


def line(measured: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """One JSON line, what was measured first."""
    return json.dumps({**measured, **about})


def has_amx() -> bool:
    """Whether this CPU multiplies bf16 matrices in hardware tiles."""
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
