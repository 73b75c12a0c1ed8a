"""What the accuracy of a sliced encoder hangs on: one option at a time, on 20,000 images of CIFAR-10.

Every SACL row changes one option of the paper's SACL-XD 2x-1x, which is the row `sacl_xd-2x` (one row takes an alpha
along). Dense rows stand beside them at the same epochs. The recipe is that of `sacl_xd_cifar10`: ResNet-20, batch
256, its view plan, and AdamW, because it is short; `supervised` has its own optimizer and views (SGD; crop and flip)
at the same batch.

No table of the paper: its Fig. 4a varies alpha for XD alone on MobileNet-V1, Fig. 3b and A.2 vary the distillation
term; pairs, selection, statistics, both orders and the warm start are wisp's questions.

Command: python -m benchmarks.receipts --recipe ablation --data TRAIN --val TEST --epochs 15 --out runs/ablation
"""

from __future__ import annotations

from typing import Any

from wisp.methods import barlow_twins, sacl_xd, supervised, xd
from wisp.recipes import Recipe

ROWS: dict[str, Any] = {
    "barlow_twins": barlow_twins.Config(),
    "xd": xd.Config(),
    "xd-alpha-0.6": xd.Config(alpha=0.6),
    "supervised": supervised.Config(),
    "sacl_xd-2x": sacl_xd.Config(),
    "pairs-own": sacl_xd.Config(pairs="own"),
    "pairs-own-alpha-0.5": sacl_xd.Config(pairs="own", alpha=0.5),
    "selection-once": sacl_xd.Config(selection="once"),
    "selection-prefix": sacl_xd.Config(selection="prefix"),
    "statistics-shared": sacl_xd.Config(statistics="shared"),
    "both-orders": sacl_xd.Config(both_orders=True),
    "alpha-0.5": sacl_xd.Config(alpha=0.5),
    "alpha-0.6": sacl_xd.Config(alpha=0.6),
    "alpha-0.95": sacl_xd.Config(alpha=0.95),
    "dense-warmup-0.2": sacl_xd.Config(dense_warmup=0.2),
    "inner-correlation": sacl_xd.Config(distill="inner_correlation"),
    "negative-log": sacl_xd.Config(distill="negative_log"),
    "width-4": sacl_xd.Config(width=4.0),
}

recipe = Recipe(ROWS, {"data": "cifar10", "model": "resnet20", "epochs": 15, "batch_size": 256, "subset": 20_000})
