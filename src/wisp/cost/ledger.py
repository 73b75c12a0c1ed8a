"""The bill of a run: what was counted before it, and what was measured while it ran."""

from __future__ import annotations

import dataclasses
import os
import resource
import sys
from pathlib import Path
from typing import Any

import torch

from wisp.cost.count import TrainingCost
from wisp.data.sources.mixed import Mixed
from wisp.encoders.teacher import Teacher


def peak_memory(device: torch.device) -> int:
    """Most memory held so far, in bytes: of the accelerator where there is one, else of this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def bill(
    cost: TrainingCost,
    *,
    steps: int,
    batch_size: int,
    seconds: float,
    waited: float,
    device: torch.device,
    teacher: Teacher | None = None,
    extra: Mixed | None = None,
) -> dict[str, Any]:
    """Plain values for `result.json`.

    Args:
        cost: that was counted.
        steps: that were trained.
        batch_size: global batch.
        seconds: of training, without evaluation.
        waited: of these, seconds spent on data.
        device: that was trained on.
        teacher: whose own training is part of the price, beside `total_flops`.
        extra: training images whose making is part of it too, where somebody wrote down what it took.
    """
    paid: dict[str, Any] = {}
    if teacher is not None:
        paid["teacher"] = {"origin": teacher.origin, **dataclasses.asdict(teacher.bill)}
        if teacher.classifier is not None:
            paid["teacher"]["classifier"] = "probed" if teacher.probed else "own"
    if extra is not None:
        paid["extra"] = _made(extra)
    return {
        "branches": cost.step.branches,
        "step_flops": cost.step.flops,
        "total_flops": cost.flops,
        "parameters": cost.step.parameters,
        "activations": cost.step.activations,
        "peak_memory": peak_memory(device),
        "images_per_s": steps * batch_size / seconds if seconds else 0.0,
        "seconds": seconds,
        "data_wait": waited / seconds if seconds else 0.0,
        **paid,
    }


def _made(mixed: Mixed) -> dict[str, Any]:
    """What the extra images cost: of the bill of the whole folder the share of the images that are used."""
    paid: dict[str, Any] = {"images": len(mixed.extra)}
    if mixed.made is None:
        return paid
    share = len(mixed.extra) / mixed.found
    pipeline = mixed.made["pipeline"]
    local = os.path.isabs(pipeline) or pipeline.startswith((".", "~")) or Path(pipeline).is_dir()
    paid["pipeline"] = Path(pipeline).name if local else pipeline  # a receipt names no place of a machine
    for key in ("seconds", "flops"):
        value = mixed.made.get(key)
        paid[key] = value * share if isinstance(value, (int, float)) else None
    return paid
