"""The bill of a run: what was counted before it, and what was measured while it ran."""

from __future__ import annotations

import dataclasses
import resource
import sys
from typing import Any

import torch

from wisp.cost.count import TrainingCost
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
    """
    paid: dict[str, Any] = {}
    if teacher is not None:
        paid["teacher"] = {"origin": teacher.origin, **dataclasses.asdict(teacher.bill)}
        if teacher.classifier is not None:
            paid["teacher"]["classifier"] = "probed" if teacher.probed else "own"
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
