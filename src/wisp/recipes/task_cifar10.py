"""One small task, labels, and a teacher that knows it: every task distillation beside plain labels, on CIFAR-10.

A ResNet-20 sees 5,000 labelled images for 20 epochs; the rows of `-20k` see 20,000 for five, which are as many steps.
In one more row kd's teacher sees each image once, as it is. A row states only what is not its method's default; the
batch is the same for all. The teacher is a ResNet-20x4 that was trained with the labels of all 50,000 images, unless
another is named: of the CIFAR ResNets in public checkpoint files, say, --teacher FILE --teacher-model resnet56_pad
--teacher-classifier own.

Command: python -m benchmarks.receipts --recipe task_cifar10 --data TRAIN --val TEST --out runs/task
"""

from __future__ import annotations

from typing import Any

from wisp.methods import at, au, crd, kd, rkd, srrl, supervised
from wisp.recipes import TEACHER, Recipe

TASK: dict[str, Any] = {
    "supervised": supervised.Config(),
    "kd": kd.Config(),
    "srrl": srrl.Config(),
    "crd": crd.Config(),
    "at": at.Config(),
    "rkd": rkd.Config(),
    "au": au.Config(),
}
"""Every way to learn a task, as its paper does; also of `task_imagenette`."""
_MORE = {f"{row}-20k": settings for row, settings in TASK.items()}
ROWS: dict[str, Any] = {TEACHER: supervised.Config(), **TASK, "kd-cached": kd.Config(cached=True), **_MORE}

recipe = Recipe(
    ROWS,
    {"data": "cifar10", "model": "resnet20", "epochs": 20, "batch_size": 64, "subset": 5_000},
    own={TEACHER: {"model": "resnet20x4", "subset": None}, **{row: {"epochs": 5, "subset": 20_000} for row in _MORE}},
)
