"""A small task on photographs, and a teacher that knows no more images: task distillations beside plain labels.

A MobileNetV2 sees 3,000 labelled photographs of ten classes at 96 pixels for 10 epochs. Its teacher is a ResNet-18 that
the labels of the same images trained, three times as long. A row states only what is not its method's default; the
batch is the same for all.

Command: python -m benchmarks.receipts --recipe task_imagenette --data TRAIN --val TEST --out runs/photographs
"""

from __future__ import annotations

from typing import Any

from wisp.methods import supervised
from wisp.recipes import TEACHER, Recipe
from wisp.recipes.task_cifar10 import TASK

ROWS: dict[str, Any] = {TEACHER: supervised.Config(), **TASK}

recipe = Recipe(
    ROWS,
    {
        "data": "imagenette",
        "model": "mobilenetv2_100",
        "image_size": 96,
        "epochs": 10,
        "batch_size": 64,
        "subset": 3_000,
    },
    own={TEACHER: {"model": "resnet18", "epochs": 30}},
)
