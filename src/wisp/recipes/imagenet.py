"""Every method as its own paper trains it on ImageNet-1K, where a `Config` has the values for small images.

Optimizer, rate, batch, warm-up and views are the methods' settings for large images; a row states what is not a
default. ResNet-50 unless said otherwise.

- `barlow_twins`: Zbontar et al. 2021 and main.py: 1,000 epochs, batch 2048, 0.2 for each 256 images, weight decay 1e-6,
  projector of 8192, no factor on the loss.
- `vicreg`: Bardes et al. 2022 and its README: 1,000 epochs, batch 2048, 0.2 for each 256 images, projector of 8192.
- `simclr`: Chen et al. 2020a, section 2.2 and appendix B.1: temperature 0.1, embedding of 128.
- `moco_v2`: He et al. 2020, section 4.1: momentum 0.999. `ssl_small`: Shi et al. 2022, README: the same on
  EfficientNet-B0 with temperature 0.1, a head of twice the features, batch 512 and its own views; its first epochs
  with a teacher are left out.
- `moco_v3`: Chen, Xie and He 2021, released code: temperature 1.0 for ResNet-50.
- `byol`: Grill et al. 2020 and configs/byol.py: 1,000 epochs, 0.2 for each 256 images, weight decay 1.5e-6, 0.996.
- `simsiam`: Chen and He 2021: its defaults.
- `swav`: Caron et al. 2020, swav_200ep_bs256_pretrain.sh: queue from epoch 15 of 200, one with fixed prototypes.
- `dino`: Caron et al. 2021, README, 300 epochs: ViT-S/16, momentum 0.996, 65,536 prototypes, fixed for one epoch.
- `slimclr-moco_v2` and `slimclr-moco_v3`: Zhao et al. 2022, section 4: widths 1/.75/.5/.25, slow start at half; over
  MoCo v3 temperature 1.0, and the learning rate jumps from 1.2 to 3.2.
- `xd` and `sacl_xd`: Meng et al. 2023, A.3 and Table 2: MobileNet-V3-Large, 200 epochs, 1.5x-1x, projector of 4096,
  and from the author's scripts a factor of 0.048 on the loss.
- `seed`: Fang et al. 2021, and `disco` over MoCo v2 and over SwAV: Gao et al. 2022, on EfficientNet-B0 with momentum
  0.999; their teacher is a ResNet-50 of MoCo v2 or SwAV, which --teacher names. `compress`: Koohpayegani et al. 2020,
  and `bingo`: Xu et al. 2022, on ResNet-18.
- `rekd` and `oss`: readings of Zheng et al. 2022 and Choi et al. 2021, with a ResNet-50 that learns along.

Published (linear, percent): `ssl_small` 55.90; the slimmable rows 67.4/65.5/62.5/55.1 and 72.3/69.7/67.6/62.4; `xd`
59.42, `sacl_xd` 61.69; `seed` 61.3, `disco` 66.5, over SwAV 62.4 (as their papers and Meng et al. print them). None of
these rows was trained with wisp.

Command: python -m benchmarks.receipts --recipe imagenet --data TRAIN --val TEST --only ROW --out runs/imagenet
"""

from __future__ import annotations

from typing import Any

from wisp.methods import (
    barlow_twins,
    bingo,
    byol,
    compress,
    dino,
    disco,
    moco_v2,
    moco_v3,
    oss,
    rekd,
    sacl_xd,
    seed,
    simclr,
    simsiam,
    slimclr,
    swav,
    vicreg,
    xd,
)
from wisp.recipes import Recipe

ROWS: dict[str, Any] = {
    "barlow_twins": barlow_twins.Config(hidden=8192, out=8192, scale=1.0),
    "vicreg": vicreg.Config(hidden=8192, out=8192),
    "simclr": simclr.Config(temperature=0.1, out=128),
    "moco_v2": moco_v2.Config(momentum=0.999),
    "ssl_small": moco_v2.Config(momentum=0.999, temperature=0.1, hidden=2560),
    "moco_v3": moco_v3.Config(temperature=1.0),
    "byol": byol.Config(momentum=0.996),
    "simsiam": simsiam.Config(),
    "swav": swav.Config(queue_start=15 / 200, frozen=1 / 200),
    "dino": dino.Config(momentum=0.996, prototypes=65536, frozen=1 / 300, head_norm=False),
    "slimclr-moco_v2": slimclr.Config(momentum=0.999),
    "slimclr-moco_v3": slimclr.Config(base="moco_v3", temperature=1.0, lr_jump=3.2 / 1.2),
    "xd": xd.Config(scale=0.048, hidden=4096, out=4096),
    "sacl_xd": sacl_xd.Config(width=1.5, scale=0.048, hidden=4096, out=4096),
    "seed": seed.Config(),
    "disco": disco.Config(momentum=0.999),
    "disco-swav": disco.Config(base="swav", queue_start=15 / 200, frozen=2 / 200),
    "compress": compress.Config(),
    "bingo": bingo.Config(),
    "rekd": rekd.Config(teacher="resnet50", momentum=0.999),
    "oss": oss.Config(teacher="resnet50", queue_start=15 / 200, frozen=1 / 200),
}
_TRAINING: dict[str, dict[str, Any]] = {
    "barlow_twins": {"epochs": 1000, "batch_size": 2048, "lr": 1.6, "weight_decay": 1e-6},
    "vicreg": {"epochs": 1000, "batch_size": 2048, "lr": 0.4},  # at the 512 images of its setting
    "ssl_small": {"model": "efficientnet_b0", "batch_size": 512, "plan": "ssl_small"},
    "byol": {"epochs": 1000, "lr": 3.2, "weight_decay": 1.5e-6},
    "dino": {"model": "vit_small_patch16_224", "epochs": 300},
    "xd": {"model": "mobilenetv3_large_100", "epochs": 200},
    "sacl_xd": {"model": "mobilenetv3_large_100", "epochs": 200},
    **{row: {"model": "efficientnet_b0"} for row in ("seed", "disco", "disco-swav", "rekd", "oss")},
    **{row: {"model": "resnet18"} for row in ("compress", "bingo")},
}

recipe = Recipe(ROWS, {"data": "imagenet", "model": "resnet50"}, own=_TRAINING)
