"""SACL-XD Table 5: ResNet-20 on CIFAR-10, from Barlow Twins at 1x to SACL-XD at 6x-1x.

Source: Meng et al. 2023, section 4.3, Table 5, and A.3: LARS, learning rate 0.3, weight decay 1e-4, batch 256, cosine
with 10 warm-up epochs of 1000, views of Table 10; what A.3 leaves open (lambda, loss scale, head, LARS trust and
clip) follows solo-learn, as the paper says of itself. All of that is the methods' default for small images, so that a
row states its method alone.

Published (linear, percent): Barlow Twins 79.63, 2x-1x 82.31, 4x-1x 84.04, 6x-1x 86.81; there is no XD row. The
paper's probe may read a masked host with live shortcuts; here it reads the exported 1x network, 64 features.

Command: python -m benchmarks.receipts --recipe sacl_xd_cifar10 --data TRAIN --val TEST --epochs 1000 --out runs/table5
"""

from __future__ import annotations

from typing import Any

from wisp.methods import barlow_twins, sacl_xd, xd
from wisp.recipes import Recipe

ROWS: dict[str, Any] = {
    "barlow_twins": barlow_twins.Config(),
    "xd": xd.Config(),
    "sacl_xd-2x": sacl_xd.Config(width=2.0),
    "sacl_xd-4x": sacl_xd.Config(width=4.0),
    "sacl_xd-6x": sacl_xd.Config(width=6.0),
}

recipe = Recipe(ROWS, {"data": "cifar10", "model": "resnet20", "epochs": 1000})
