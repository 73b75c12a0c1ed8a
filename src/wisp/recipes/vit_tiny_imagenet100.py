"""SACL-XD Table 4: ViT-Tiny/16 on ImageNet-100, 400 epochs, Barlow Twins, DINO and XD.

Source: Meng et al. 2023, section 4.2 (alpha 0.8) and A.3: batch 256, AdamW at 0.005, weight decay 1e-4, views of Table
9. The paper "slims down" the projector without a number: the 2048 of its scripts. Of DINO it says nothing but a
citation: the optimizer, rate and views of DINO's own paper (momentum 0.996), with solo-learn's 4,096 prototypes, for
65,536 would have two images each. The rate of the other two is far above what transformers usually take; it is the
paper's.

Published (linear, percent): Barlow Twins 62.56, DINO 63.04, XD 63.92. None of them was trained here.

Command: python -m benchmarks.receipts --recipe vit_tiny_imagenet100 --data TRAIN --val TEST --out runs/table4
"""

from __future__ import annotations

from typing import Any

from wisp.methods import barlow_twins, dino, xd
from wisp.recipes import Recipe

ROWS: dict[str, Any] = {
    "barlow_twins": barlow_twins.Config(),
    "dino": dino.Config(momentum=0.996, head_norm=False),
    "xd": xd.Config(alpha=0.8),
}
_PAPERS: dict[str, Any] = {"optimizer": "adamw", "lr": 0.005, "weight_decay": 1e-4, "plan": "sacl_xd_imagenet100"}

recipe = Recipe(
    ROWS,
    {"data": "imagenet100", "model": "vit_tiny_patch16_224", "epochs": 400, "batch_size": 256},
    own={"barlow_twins": _PAPERS, "xd": _PAPERS},
)
