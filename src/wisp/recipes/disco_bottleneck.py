"""The distilling bottleneck: DisCo on CIFAR-10 with heads of other hidden widths, all with the same teacher.

Source: Gao et al. 2022, section 4.7. Table 4: with MoCo v2's own head, as wide as the features, ResNet-18 loses 3.5
points on ImageNet against the teacher's 2048. Fig. 9: wider is better, less and less so; its widths could not be read,
those here are powers of two, from the features' own 64 (what MoCo v2 and SEED would take) to 4096. As in the paper the
teacher is MoCo v2, here a ResNet-20x4 on the same images; its head has 2048 and 128. The student is a ResNet-20 on
20,000 images, and its rows differ in one number.

Command: python -m benchmarks.receipts --recipe disco_bottleneck --data TRAIN --val TEST --out runs/bottleneck
"""

from __future__ import annotations

from typing import Any

from wisp.methods import disco, moco_v2
from wisp.recipes import TEACHER, Recipe

WIDTHS = (64, 128, 512, 1024, 2048, 4096)
ROWS: dict[str, Any] = {
    TEACHER: moco_v2.Config(),
    **{f"hidden-{width}": disco.Config(hidden=width) for width in WIDTHS},
}

recipe = Recipe(
    ROWS,
    {"data": "cifar10", "model": "resnet20", "epochs": 10, "batch_size": 256, "subset": 20_000},
    own={TEACHER: {"model": "resnet20x4"}},
)
