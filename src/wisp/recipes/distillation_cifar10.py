"""With a teacher and without: every method that has one beside those that claim to need none, on CIFAR-10.

The student is a ResNet-20, all rows train it on 20,000 images for 10 epochs. The teacher is a ResNet-20x4 that Barlow
Twins trained on the same images, for as many epochs: nobody saw a label. It is the first row, and its bill is part of
every row that it teaches. Online teachers have its architecture and fresh weights. A row states only what is not its
method's default, and that is how its paper trains on CIFAR, or on ImageNet where it has no CIFAR (docs/methods.md). Two
things would not begin in so few steps: SwAV takes the values of `contrastive_cifar10` wherever it is below another
method, and CompRess a slow copy of 0.99, of which the paper's 0.999 would be half random to the end. DisCo has a second
row: its released code draws the student to the teacher with 32 times the weight that the paper states.

With another teacher, for instance the supervised ResNet-56 of public checkpoint files, the table is another one and
not label-free: --teacher FILE --teacher-model resnet56_pad --teacher-head none --name distillation_supervised.

Command: python -m benchmarks.receipts --recipe distillation_cifar10 --data TRAIN --val TEST --out runs/distillation
"""

from __future__ import annotations

from typing import Any

from wisp.methods import barlow_twins, bingo, compress, disco, oss, rekd, sacl_xd, seed, swav, xd
from wisp.recipes import TEACHER, Recipe
from wisp.recipes.contrastive_cifar10 import ROWS as CONTRASTIVE

_LARGE = "resnet20x4"
_SWAV: swav.Config = CONTRASTIVE["swav"]
_CLUSTERS: dict[str, Any] = {name: getattr(_SWAV, name) for name in ("prototypes", "epsilon", "frozen", "queue_start")}
ROWS: dict[str, Any] = {
    TEACHER: barlow_twins.Config(),
    "barlow_twins": barlow_twins.Config(),
    "xd": xd.Config(),
    "sacl_xd-4x": sacl_xd.Config(width=4.0),
    "seed": seed.Config(),
    "compress": compress.Config(momentum=0.99),
    "disco": disco.Config(),
    "disco-paper": disco.Config(distill_weight=1.0),
    "disco-swav": disco.Config(base="swav", **_CLUSTERS),
    "bingo": bingo.Config(),
    "rekd": rekd.Config(teacher=_LARGE),
    "oss": oss.Config(teacher=_LARGE, **_CLUSTERS),
}

recipe = Recipe(
    ROWS,
    {"data": "cifar10", "model": "resnet20", "epochs": 10, "batch_size": 256, "subset": 20_000},
    own={TEACHER: {"model": _LARGE}},
)
