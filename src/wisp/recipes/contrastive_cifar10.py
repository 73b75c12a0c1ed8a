"""One recipe a method on 20,000 images of CIFAR-10, ResNet-20: the methods that the papers compare with, side by side.

Optimizer, learning rate, views and heads are those of solo-learn's CIFAR presets, which are the methods' defaults for
small images; a row states only what is not a default. Where LARS would not settle in so few steps AdamW stands in for
it, as everywhere in wisp. `moco_v2` is solo-learn's symmetric variant; `moco_v2-asymmetric` is the paper's loss with
the values of its authors' CIFAR notebook. `ssl_small` is Shi et al. 2022: MoCo v2 with other values, no method of its
own (its two epochs of SEED before that need a teacher and are left out). DINO's slow copy has the paper's 0.996, for
solo-learn's 0.9995 is made for 1,000 epochs; its teacher stays at the released code's 0.04, there are 1,024 prototypes,
fixed for an epoch: with 0.07 and 4,096 the teacher has said next to nothing after 50 steps. SwAV's 3,000 prototypes are
too many for so few images: its loss stays at ln 3000, of which its authors' README warns; after its advice there are
300, fixed for an epoch, with a smaller epsilon and a late queue. `xd` and `sacl_xd` stand beside them as their paper
says.

No table of a paper: the methods come from different ones, and were never compared at one short budget.

Command: python -m benchmarks.receipts --recipe contrastive_cifar10 --data TRAIN --val TEST --out runs/contrastive
"""

from __future__ import annotations

from typing import Any

from wisp.methods import (
    barlow_twins,
    byol,
    dino,
    moco_v2,
    moco_v3,
    sacl_xd,
    simclr,
    simsiam,
    slimclr,
    swav,
    vicreg,
    xd,
)
from wisp.recipes import Recipe

ROWS: dict[str, Any] = {
    "barlow_twins": barlow_twins.Config(),
    "vicreg": vicreg.Config(),
    "simclr": simclr.Config(),
    "moco_v2": moco_v2.Config(symmetric=True, out=256),
    "moco_v2-asymmetric": moco_v2.Config(temperature=0.1, queue=4096),
    "moco_v3": moco_v3.Config(),
    "byol": byol.Config(),
    "simsiam": simsiam.Config(),
    "swav": swav.Config(prototypes=300, epsilon=0.03, frozen=0.1, queue_start=0.5),
    "dino": dino.Config(momentum=0.996, teacher_end=0.04, prototypes=1024, frozen=0.1),
    "ssl_small": moco_v2.Config(temperature=0.1, hidden=128),
    "slimclr": slimclr.Config(out=256),
    "xd": xd.Config(),
    "sacl_xd": sacl_xd.Config(),
}

recipe = Recipe(
    ROWS,
    {"data": "cifar10", "model": "resnet20", "epochs": 10, "batch_size": 256, "subset": 20_000},
    own={"ssl_small": {"plan": "ssl_small"}},
)
