"""A MobileNet taught by a ResNet-50 on photographs: the whole way of a user with his own pictures and his own teacher.

MoCo v2 trains the teacher on the same images, at 96 pixels; SEED teaches MobileNetV3-Small, which MoCo v2 also trains
alone. Few images and few epochs: it shows that the way can be gone without a network or a foreign file, and what it
costs. Nothing here settles which row is better.

Command: python -m benchmarks.receipts --recipe distillation_mobile --data TRAIN --val TEST --out runs/mobile
"""

from __future__ import annotations

from typing import Any

from wisp.methods import moco_v2, seed
from wisp.recipes import TEACHER, Recipe

ROWS: dict[str, Any] = {
    TEACHER: moco_v2.Config(),
    "moco_v2": moco_v2.Config(),
    "seed": seed.Config(),
}

recipe = Recipe(
    ROWS,
    {"data": "imagenette", "model": "mobilenetv3_small_100", "image_size": 96, "epochs": 5, "batch_size": 64},
    own={TEACHER: {"model": "resnet50"}},
)
