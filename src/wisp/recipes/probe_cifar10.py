"""The other road to a small task: pre-train without labels, then probe; `task_cifar10` distils instead.

XD trains a ResNet-20 on 20,000 images without a label for 10 epochs; a linear classifier on it learns the 5,000 images
of `task_cifar10`, for as many epochs as its rows.

Command: python -m benchmarks.receipts --recipe probe_cifar10 --data TRAIN --val TEST --out runs/probe
"""

from __future__ import annotations

from typing import Any

from wisp.methods import probe, xd
from wisp.recipes import TEACHER, Recipe

ROWS: dict[str, Any] = {TEACHER: xd.Config(), "probe": probe.Config()}

recipe = Recipe(
    ROWS,
    {"data": "cifar10", "model": "resnet20", "epochs": 20, "batch_size": 64, "subset": 5_000},
    own={TEACHER: {"epochs": 10, "batch_size": 256, "subset": 20_000}},
)
