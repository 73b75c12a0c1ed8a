"""Named view plans, every value with the place it comes from.

Values that a paper's table leaves out (crop range, grey) are those of the code that it names as its source; the plan's
`source` says so. A jitter triple in the papers is a strength, whatever the row's heading ("adjustment probability").
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
        "cifar/augmentations/asymmetric.yaml, which it follows",
        (replace(_BARLOW_A, blur=0.0), replace(_BARLOW_A, blur=0.0, solarize=0.2)),
    ),
    (
        "mocov2",
        "MoCo main_moco.py --aug-plus: crop 0.2-1, jitter 0.4/0.4/0.4/0.1 at 0.8, grey 0.2, blur 0.5 with sigma 0.1-2",
        (_MOCO_V2, _MOCO_V2),
    ),
    (
        "byol",
        "BYOL Appendix B, Table 6: crop 0.08-1, jitter 0.4/0.4/0.2/0.1 at 0.8, grey 0.2, blur 1.0 / 0.1, "
        "solarise 0 / 0.2",
        (_BARLOW_A, _BARLOW_B),
    ),
    (
        "digits",
        "wisp's own: what would change a digit (flip, small crops) or needs colour (jitter, grey, solarise) is off; "
        "crop 0.35-1, shift 0.1, blur 0.3 with sigma 0.1-1",
        (_DIGITS, _DIGITS),
    ),
    ("supervised", "torchvision's classification reference: crop 0.08-1, flip 0.5; one view", (View(flip=0.5),)),
    (
        "plain",
        "no augmentation: the central square, resized; one view",
        (View(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0)),),
    ),
)

PLANS: dict[str, ViewPlan] = {name: ViewPlan(name, source, views) for name, source, views in _SOURCES}
