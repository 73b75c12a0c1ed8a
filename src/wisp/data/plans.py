"""Named view plans, every value with the place it comes from.

Values that a paper's table leaves out (crop range, grey) are those of the code that it names as its source; the plan's
`source` says so. A jitter triple in the papers is a strength, whatever the row's heading ("adjustment probability").
What every plan shares whatever its source has: bilinear resizing, and a blur kernel of a tenth of the view's own side.
"""

from __future__ import annotations

from dataclasses import replace

from wisp.data.views import View, ViewPlan

# Table 8, column A; crop range 0.08-1 and grey 0.2 are not in the table but in Barlow Twins' code, which it follows.
_BARLOW_A = View(
    flip=0.5,
    jitter=0.8,
    brightness=0.4,
    contrast=0.4,
    saturation=0.2,
    hue=0.1,
    gray=0.2,
    blur=1.0,
    blur_sigma=(0.1, 2.0),
)
_BARLOW_B = replace(_BARLOW_A, blur=0.1, solarize=0.2)
_MOCO_V2 = View(
    crop_scale=(0.2, 1.0),
    flip=0.5,
    jitter=0.8,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.1,
    gray=0.2,
    blur=0.5,
)
_MOCO_V2_CIFAR = replace(_MOCO_V2, crop_scale=(0.08, 1.0))
_SIMCLR = View(
    flip=0.5,
    jitter=0.8,
    brightness=0.8,
    contrast=0.8,
    saturation=0.8,
    hue=0.2,
    gray=0.2,
    blur=0.5,
)
_SWAV = replace(_SIMCLR, crop_scale=(0.14, 1.0))
_SWAV_LOCAL = replace(_SIMCLR, crop_scale=(0.05, 0.14), side=96 / 224)
_MOCO_V3 = tuple(replace(view, crop_scale=(0.2, 1.0)) for view in (_BARLOW_A, _BARLOW_B))
_DINO = tuple(replace(view, crop_scale=(0.4, 1.0)) for view in (_BARLOW_A, _BARLOW_B))
_DINO_LOCAL = replace(_BARLOW_A, crop_scale=(0.05, 0.4), blur=0.5, side=96 / 224)
_VICREG_CIFAR = replace(_BARLOW_A, crop_scale=(0.2, 1.0), blur=0.0, solarize=0.1)
_SIMSIAM_CIFAR = replace(_MOCO_V2, blur=0.0)
_SSL_SMALL = replace(_MOCO_V2, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.4, gray=0.5)
_SMALL_A = replace(_BARLOW_A, crop_scale=(0.2, 1.0), blur=0.0)
_SMALL_B = replace(_SMALL_A, solarize=0.2)
_SMALL_LOCAL = replace(_SMALL_A, crop_scale=(0.08, 0.4), side=0.5)
_DIGITS = View(crop_scale=(0.35, 1.0), blur=0.3, blur_sigma=(0.1, 1.0), shift=0.1)

_SOURCES = (
    (
        "sacl_xd_imagenet",
        "SACL-XD Table 8; crop scale 0.08-1, grey 0.2 and sigma 0.1-2 are not in it: Barlow Twins main.py, Transform",
        (_BARLOW_A, _BARLOW_B),
    ),
    (
        "sacl_xd_imagenet100",
        "SACL-XD Table 9, with saturation 0.2 in view A where it prints 0.0, likely a typo: view B and Tables 8 and 10 "
        "say 0.2; crop scale 0.08-1 and grey 0.2: solo-learn imagenet-100/augmentations/asymmetric.yaml",
        (_BARLOW_A, _BARLOW_B),
    ),
    (
        "sacl_xd_cifar10",
        "SACL-XD Table 10; crop scale 0.08-1 and grey 0.2 are not in it: solo-learn "
        "cifar/augmentations/asymmetric.yaml, which it follows (as solo-learn's dino.yaml and mocov3.yaml do)",
        (replace(_BARLOW_A, blur=0.0), replace(_BARLOW_A, blur=0.0, solarize=0.2)),
    ),
    (
        "mocov2",
        "MoCo main_moco.py --aug-plus: crop 0.2-1, jitter 0.4/0.4/0.4/0.1 at 0.8, grey 0.2, blur 0.5 with sigma 0.1-2",
        (_MOCO_V2, _MOCO_V2),
    ),
    ("seed", "SEED section 4.1: one view, of MoCo v2's kind where that is its teacher's", (_MOCO_V2,)),
    ("seed_cifar", "wisp's own, for SEED has no small images: one view of mocov2_cifar", (_MOCO_V2_CIFAR,)),
    (
        "mocov2_cifar",
        "solo-learn cifar/augmentations/symmetric_weak.yaml, which its mocov2plus.yaml takes: crop 0.08-1, jitter "
        "0.4/0.4/0.4/0.1 at 0.8, grey 0.2, blur 0.5",
        (_MOCO_V2_CIFAR, _MOCO_V2_CIFAR),
    ),
    (
        "byol",
        "BYOL Appendix B, Table 6: crop 0.08-1, jitter 0.4/0.4/0.2/0.1 at 0.8, grey 0.2, blur 1.0 / 0.1, "
        "solarise 0 / 0.2",
        (_BARLOW_A, _BARLOW_B),
    ),
    (
        "mocov3",
        "MoCo v3 main_moco.py: BYOL's pair of views with crop 0.2-1, its setting for ResNet-50",
        _MOCO_V3,
    ),
    (
        "simclr",
        "SimCLR Appendix A: crop 0.08-1, jitter 0.8/0.8/0.8/0.2 (strength 1) at 0.8, grey 0.2, blur 0.5 with sigma "
        "0.1-2",
        (_SIMCLR, _SIMCLR),
    ),
    (
        "simclr_cifar",
        "solo-learn cifar/augmentations/symmetric.yaml, which its simclr.yaml and swav.yaml take: crop 0.08-1, jitter "
        "0.8/0.8/0.8/0.2 at 0.8, grey 0.2, blur 0.5, no solarise",
        (_SIMCLR, _SIMCLR),
    ),
    (
        "simsiam_cifar",
        "SimSiam Appendix D: as MoCo v2 (crop 0.2-1, jitter 0.4/0.4/0.4/0.1 at 0.8, grey 0.2), but no blur at 32 px",
        (_SIMSIAM_CIFAR, _SIMSIAM_CIFAR),
    ),
    (
        "vicreg_cifar",
        "solo-learn cifar/vicreg.yaml: crop 0.2-1, jitter 0.4/0.4/0.2/0.1 at 0.8, grey 0.2, no blur, solarise 0.1 in "
        "both views",
        (_VICREG_CIFAR, _VICREG_CIFAR),
    ),
    (
        "ssl_small",
        "Shi et al. 2021, ssl-small README (--aug-plus --cj 1 --grey-scale 0.5 --gaussian-blur 0.5): crop 0.2-1, "
        "jitter 0.8/0.8/0.8/0.4 at 0.8, grey 0.5, blur 0.5",
        (_SSL_SMALL, _SSL_SMALL),
    ),
    (
        "swav",
        "SwAV scripts/swav_800ep_pretrain.sh and src/multicropdataset.py: 2 x 224 px of scale 0.14-1 and 6 x 96 px of "
        "0.05-0.14; jitter 0.8/0.8/0.8/0.2 at 0.8, grey 0.2, blur 0.5 with sigma 0.1-2",
        (_SWAV,) * 2 + (_SWAV_LOCAL,) * 6,
    ),
    (
        "dino",
        "DINO main_dino.py, defaults (ViT-S): 2 x 224 px of scale 0.4-1 and 8 x 96 px of 0.05-0.4; BYOL's colours, "
        "blur 1.0 / 0.1 / 0.5 local, solarise 0 / 0.2 / 0 local; its ResNet-50 has scales 0.14-1 and 0.05-0.14",
        _DINO + (_DINO_LOCAL,) * 8,
    ),
    (
        "multicrop_small",
        "wisp's own, for images of about 32 px: the colours of sacl_xd_cifar10; 2 views of scale 0.2-1, and 4 of half "
        "the side and scale 0.08-0.4, so that a local crop of 32 px is about 9 to 20 px of the image",
        (_SMALL_A, _SMALL_B) + (_SMALL_LOCAL,) * 4,
    ),
    (
        "digits",
        "wisp's own: what would change a digit (flip, small crops) or needs colour (jitter, grey, solarise) is off; "
        "crop 0.35-1, shift 0.1, blur 0.3 with sigma 0.1-1",
        (_DIGITS, _DIGITS),
    ),
    ("digits_one", "wisp's own: one view of digits", (_DIGITS,)),
    ("crop_flip", "CompRess train_student.py: crop 0.08-1, flip 0.5; one view", (View(flip=0.5),)),
    ("supervised", "torchvision's classification reference: crop 0.08-1, flip 0.5; one view", (View(flip=0.5),)),
    (
        "pad_crop",
        "He et al. 2016, section 4.2, and RepDistiller's CIFAR loaders: a border of 4 of 32 px and a crop of 32 px, "
        "flip 0.5; one view",
        (View(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), shift=4.5 / 32, flip=0.5),),  # whole pixels, -4 to 4
    ),
    (
        "plain",
        "no augmentation: the central square, resized; one view",
        (View(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0)),),
    ),
)

PLANS: dict[str, ViewPlan] = {name: ViewPlan(name, source, views) for name, source, views in _SOURCES}
