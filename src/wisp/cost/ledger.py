"""The bill of a run: what was counted before it, and what was measured while it ran."""

from __future__ import annotations

import dataclasses
import os
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from wisp.cost.count import TrainingCost
from wisp.cost.road import machine_name
from wisp.data.sources.mixed import Mixed
from wisp.encoders.teacher import Teacher


def peak_memory(device: torch.device) -> int:
    """Most memory held so far, in bytes: of the accelerator where there is one, else of this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """What a run with a teacher does once, before its first step.

    Attributes:
        flops: also where an earlier run paid for it.
        seconds: likewise; None where they were not taken on this machine.
        machine: one device, whatever number of them trains later.
    """

    flops: int
    seconds: float | None
    machine: str | None


def bill(
    cost: TrainingCost,
    *,
    steps: int,
    batch_size: int,
    seconds: float,
    waited: float,
    device: torch.device,
    machine: str | None,
    ahead: Mapping[Literal["probe", "looks"], Ahead],
    teacher: Teacher | None = None,
    extra: Mixed | None = None,
    handed_out: bool = False,
) -> dict[str, Any]:
    """Plain values for `result.json`, and for the cards; `wisp.cost.road` makes the parts of the price of them.

    Args:
        cost: that was counted, with all that lies ahead of the steps.
        steps: that were trained.
        batch_size: global batch.
        seconds: of training, without evaluation.
        waited: of these, seconds spent on data.
        device: that was trained on.
        machine: in a few words, since times of several do not add up.
        ahead: of the first step; a part of `cost`, and none of `seconds`.
        teacher: whose own training is part of the price, beside `total_flops`.
        extra: training images whose making is part of it too, where somebody wrote down what it took.
        handed_out: whether the teacher itself is the encoder, and only a classifier was trained.
    """
    paid: dict[str, Any] = {}
    if teacher is not None:
        paid["teacher"] = {"origin": teacher.origin, **dataclasses.asdict(teacher.bill)}
        if teacher.classifier is not None:
            paid["teacher"]["classifier"] = "probed" if teacher.probed else "own"
        if handed_out:
            paid["teacher"]["handed_out"] = True
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
        "machine": machine,
        **{name: dataclasses.asdict(each) for name, each in ahead.items()},
        **paid,
    }


def _made(mixed: Mixed) -> dict[str, Any]:
    """What the extra images cost: of the bill of the whole folder the share of the images that are used."""
    paid: dict[str, Any] = {"images": len(mixed.extra)}
    if mixed.made is None:
        return paid
    share = len(mixed.extra) / mixed.found
    pipeline = mixed.made["pipeline"]
    paid["pipeline"] = Path(pipeline).name if os.path.isabs(pipeline) else pipeline  # a receipt names no place
    for key in ("seconds", "flops"):
        value = mixed.made.get(key)
        paid[key] = value * share if isinstance(value, (int, float)) else None
    if isinstance(drew := mixed.made.get("hardware"), dict):
        paid["machine"] = machine_name(drew)
    return paid
