"""Whether a host helps other losses than Barlow Twins: each loss alone, with its distillation, and with a host too.

Five rows a loss, on 20,000 images of CIFAR-10 and ResNet-20. `LOSS` is the method alone, at the encoder's own width
(MoCo v2 in both directions, as between the branches). `LOSS-xd` is SACL of width 1: the loss and the distillation
against each embedding itself, so that what the distillation does is not counted for the host. `LOSS-2x` changes only
the width. Pairs are their own: in the sweep of `ablation` they did better than the paper's crossed ones, without its
frozen passes; `LOSS-2x-crossed` is the paper's pairing. `LOSS-2x-warm` trains the host alone for the first epoch, so
that host and slim network have something in common when they meet. Optimizer, learning rate, views and heads are those
of each loss; where LARS would not settle in so few steps AdamW stands in for it.

No table of a paper: SACL-XD leaves a momentum encoder to others, and has Barlow Twins only.

Command: python -m benchmarks.receipts --recipe sacl_losses_cifar10 --data TRAIN --val TEST --out runs/sacl_losses
"""

from __future__ import annotations

from typing import Any

from wisp.methods import barlow_twins, byol, moco_v2, sacl_xd, simclr, vicreg
from wisp.recipes import Recipe

_ALONE: dict[Any, Any] = {
    "barlow_twins": barlow_twins.Config(),
    "vicreg": vicreg.Config(),
    "simclr": simclr.Config(),
    "moco_v2": moco_v2.Config(symmetric=True),
    "byol": byol.Config(),
}
_HOSTS: dict[str, Any] = {
    "-xd": {"width": 1.0, "pairs": "own"},
    "-2x": {"pairs": "own"},
    "-2x-warm": {"pairs": "own", "dense_warmup": 0.2},
    "-2x-crossed": {},
}
ROWS: dict[str, Any] = _ALONE | {
    f"{loss}{suffix}": sacl_xd.Config(loss=loss, **options) for loss in _ALONE for suffix, options in _HOSTS.items()
}

recipe = Recipe(ROWS, {"data": "cifar10", "model": "resnet20", "epochs": 5, "batch_size": 256, "subset": 20_000})
