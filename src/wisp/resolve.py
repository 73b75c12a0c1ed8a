"""What a user left open, made definite: from the method's paper, the data and the machine."""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from wisp.data.plans import PLANS
from wisp.data.views import ViewPlan
from wisp.encoders.stock import EncoderSpec
from wisp.errors import WispError, nearest
from wisp.methods.method import Settings
from wisp.run import Run

SMALL = 64
"""Images up to this size take the paper's CIFAR settings, larger ones its ImageNet settings."""
_DIGITS_PLANS = {
    **dict.fromkeys(("supervised", "pad_crop", "plain"), "plain"),
    **dict.fromkeys(("crop_flip", "seed", "seed_cifar"), "digits_one"),
}
"""What stands for a paper's plan; two views of digits for all others."""
_DIGITS_EPOCHS = 40
"""The built-in set is a demonstration: its own views (no flips), and minutes instead of hours."""
_LONGEST_WARMUP = 0.1
SHORT = 10_000
"""Steps below which LARS, as the papers set it, does not settle (docs/decisions.md); AdamW stands in for it."""
_ADAMW: dict[str, Any] = {
    "optimizer": "adamw",
    "batch_size": 256,
    "lr": 1e-3,
    "weight_decay": 1e-4,
    "lr_scale": "linear",
}


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """Every number of a training, none left open."""

    plan: str
    image_size: int
    images: int
    """Of an epoch: the task's own and the extra ones."""
    extra: int = 0
    """Images of --extra among them."""
    extra_found: int = 0
    """Images that lie in its folder: with others in it, others would be taken."""
    epochs: int
    batch_size: int
    steps_per_epoch: int
    steps: int
    optimizer: Literal["lars", "sgd", "adamw"]
    lr: float
    """After scaling with the batch size, if the method scales it."""
    weight_decay: float
    warmup_steps: int
    trust: float
    clip: bool
    plain_lr: float
    source: str
    """Where the defaults come from."""


def resolve(run: Run[Any], settings: dict[str, Settings], spec: EncoderSpec, images: int) -> Resolved:
    """Fills in what `run` leaves open for `images` training images.

    Raises:
        WispError: a batch larger than the data set, an image or a view smaller than the encoder's stride, an unknown
            plan.
    """
    paper = settings["small" if spec.image_size <= SMALL else "large"]
    if run.data.lower() == "digits":
        plan = _DIGITS_PLANS.get(paper.plan, "digits")
        paper = dataclasses.replace(paper, plan=plan, epochs=_DIGITS_EPOCHS)
    if spec.image_size < spec.stride:
        or_stem = ", or --stem small" if spec.is_timm else ""
        raise WispError(
            f"--image-size {spec.image_size} is below the total stride {spec.stride} of {spec.name}; "
            f"use {spec.stride} or more{or_stem}"
        )
    batch = _batch_size(run.batch_size, paper.batch_size, images)
    name = run.plan or paper.plan
    if name not in PLANS:
        raise WispError(f"unknown view plan {name!r}; nearest: {', '.join(nearest(name, PLANS))}")
    _refuse_local_crops(PLANS[name], spec)
    epochs = run.epochs or paper.epochs
    per_epoch = images // batch
    if paper.optimizer == "lars" and run.optimizer is None and run.lr is None and epochs * per_epoch < SHORT:
        source = f"{paper.source}; AdamW in the place of LARS below {SHORT:,} steps: ours"
        paper = dataclasses.replace(paper, **_ADAMW, source=source)
    elif run.optimizer == "adamw" != paper.optimizer:
        paper = dataclasses.replace(paper, **_ADAMW, source=f"{paper.source}; AdamW at {_ADAMW['lr']:g}: ours")
    elif run.optimizer not in (None, paper.optimizer) and run.lr is None:
        raise WispError(f"--optimizer {run.optimizer} is not this method's ({paper.optimizer}); name its --lr too")
    lr = run.lr or paper.lr
    if paper.lr_scale == "linear":
        lr *= batch / paper.batch_size
    return Resolved(
        plan=name,
        image_size=spec.image_size,
        images=images,
        epochs=epochs,
        batch_size=batch,
        steps_per_epoch=per_epoch,
        steps=epochs * per_epoch,
        optimizer=run.optimizer or paper.optimizer,
        lr=lr,
        weight_decay=paper.weight_decay if run.weight_decay is None else run.weight_decay,
        warmup_steps=min(paper.warmup_epochs * per_epoch, math.ceil(_LONGEST_WARMUP * epochs * per_epoch)),
        trust=paper.trust,
        clip=paper.clip,
        plain_lr=paper.plain_lr,
        source=paper.source,
    )


def _refuse_local_crops(plan: ViewPlan, spec: EncoderSpec) -> None:
    """Raises WispError where a local view is below the encoder's stride."""
    smallest = min(plan.pixels(spec.image_size))
    if smallest == spec.image_size:
        return
    if smallest < spec.stride:
        enough = next(size for size in itertools.count(spec.image_size) if min(plan.pixels(size)) >= spec.stride)
        or_stem = ", --stem small" if spec.is_timm else ""
        raise WispError(
            f"the local crops of --plan {plan.name} have {smallest} px at --image-size {spec.image_size}, below the "
            f"total stride {spec.stride} of {spec.name}; use --image-size {enough} or more{or_stem}, or another --plan"
        )


def fitting(spec: EncoderSpec, plan: ViewPlan) -> EncoderSpec:
    """`spec` such that its encoder takes every view of `plan`: of a transformer one that resamples its positions.

    Raises:
        WispError: it takes one size of images, or views of whole patches only.
    """
    sides = [side for side in dict.fromkeys(plan.pixels(spec.image_size)) if side != spec.image_size]
    reason = next(filter(None, map(spec.takes, sides)), None)
    if reason is None:
        return spec
    loose = replace(spec, any_size=True)
    if loose.takes(spec.image_size) is None and loose.stays_plain():
        reason = next(filter(None, map(loose.takes, sides)), None)
        remedy = _whole_patches(plan, spec)
    else:
        remedy = "use a convolutional --model or a ViT"
    if reason is None:
        return loose
    crops = " and ".join(map(str, sides))
    raise WispError(
        f"{spec.name} does not take the {crops} px crops of --plan {plan.name} ({reason.rstrip('.')}); "
        f"{remedy}, or another --plan"
    )


def _whole_patches(plan: ViewPlan, spec: EncoderSpec) -> str:
    """The least image size from this one on at which every view is a whole number of patches."""
    patch = spec.stride
    sizes = range(spec.image_size, 64 * patch)
    fit = next((size for size in sizes if all(side % patch == 0 for side in plan.pixels(size))), None)
    return f"its patches have {patch} px: " + ("use another --model" if fit is None else f"use --image-size {fit}")


def _batch_size(asked: int | None, paper: int, images: int) -> int:
    """The explicit size, or min(paper, largest power of two up to half of the images)."""
    if asked is not None:
        if asked > images:
            raise WispError(f"--batch-size {asked} is larger than the {images} training images; use {images} or less")
        if asked < 2:
            raise WispError(f"--batch-size {asked} has no statistics; use 2 or more")
        return asked
    if images < 4:
        raise WispError(f"{images} training images are too few; 4 are the least, and thousands make sense")
    return min(paper, 1 << ((images // 2).bit_length() - 1))


def plan_of(resolved: Resolved) -> ViewPlan:
    """The view plan by its name."""
    return PLANS[resolved.plan]
