"""SlimCLR on CIFAR-10: MoCo v2 alone at each width, and the ladder from a vanilla slimmable network to SlimCLR.

Source: Zhao et al. 2022, Fig. 5 (ResNet-20x4, 100 epochs, widths 1 and 0.5, kNN: alone 76.75, slimmable 75.74 and
74.24, without slow start, distillation and re-weighting), and the ladder of Tables 3a to 3e on ImageNet, one technique
a row. `alone-1.0` is the host, `alone-0.5` the half of it, each trained as MoCo v2. The `supervised` rows are the same
three with labels (Fig. 1 and 5: alone 94.07, slimmable 93.58 and 93.03): how much the widths disturb each other there.
The `small` rows are all of them on ResNet-20x2 and 5,000 images, which a CPU trains in minutes.

Command: python -m benchmarks.receipts --recipe slimclr_cifar10 --data TRAIN --val TEST --out runs/slimclr
"""

from __future__ import annotations

from typing import Any

from wisp.methods import moco_v2, slimclr, slimmable, supervised
from wisp.recipes import Recipe

_MOCO = moco_v2.Config()
_LADDER: dict[str, Any] = {
    "vanilla": {"slow_start": 0.0, "distill": "none", "reweighting": "none"},
    "slow-start": {"distill": "none", "reweighting": "none"},
    "distillation": {"reweighting": "none"},
    "re-weighting": {},
}
_TECHNIQUES: dict[str, Any] = {
    "alone-1.0": _MOCO,
    "alone-0.5": _MOCO,
    **{name: slimclr.Config(widths=(1.0, 0.5), **off) for name, off in _LADDER.items()},
    "supervised-alone-1.0": supervised.Config(),
    "supervised-alone-0.5": supervised.Config(),
    "supervised-slimmable": slimmable.Config(widths=(1.0, 0.5)),
}
ROWS: dict[str, Any] = {
    f"{prefix}{name}": settings for prefix in ("small-", "") for name, settings in _TECHNIQUES.items()
}


def _own(row: str) -> dict[str, Any]:
    """Network, images and epochs of a row: those of Fig. 5, or the small ones."""
    small = row.startswith("small-")
    host, half = ("resnet20x2", "resnet20") if small else ("resnet20x4", "resnet20x2")
    return {
        "model": half if row.endswith("alone-0.5") else host,
        "epochs": 10 if small else 100,
        "subset": 5_000 if small else None,
    }


recipe = Recipe(
    ROWS,
    {"data": "cifar10", "batch_size": 256, "record": True},  # the record is for Fig. 3 to 5, by wisp diagnose
    own={row: _own(row) for row in ROWS},
)
