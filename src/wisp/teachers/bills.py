"""What a teacher's own training cost, and whether it saw labels: both belong to every student of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from torch import nn

from wisp import methods
from wisp.cost.count import count_forward
from wisp.cost.road import road, total
from wisp.encoders.public import CIFAR_RESNET, LABEL_FREE, Found
from wisp.encoders.teacher import Bill


def unknown(labels: bool | None) -> Bill:
    """Of a training that nobody recorded.

    Args:
        labels: whether it saw labels; None where nobody knows that either.
    """
    return Bill(flops=None, certainty="unknown", note="its training is not recorded", labels=labels)


def of_run(cost: dict[str, Any], name: str, method: str) -> Bill:
    """The training of a run with all that lay before it: where it had a teacher, that one's too.

    Args:
        cost: as a card has it.
        name: of the encoder, for the note.
        method: that trained it.
    """
    parts, before = road(cost, of=name), cost.get("teacher")
    saw = {_saw_labels(method), before.get("labels") if before is not None else False}
    labels = True if True in saw else None if None in saw else False
    if not parts:
        return unknown(labels)
    whole, note = total(parts), f"{name}, trained by wisp"
    if before is not None:
        note += f", and its own teacher {before['origin']}"
    flops = None if whole.certainty == "unknown" else whole.flops
    return Bill(flops=flops, certainty=whole.certainty, note=note, labels=labels, parts=tuple(map(asdict, parts)))


def of_file(encoder: nn.Module, found: Found, image_size: int) -> Bill:
    """Of a checkpoint file: what the trainer that writes such files takes when nobody tells it otherwise, if known.

    A classifier says that there were labels; a format whose released code never uses any says that there were none.
    """
    if found.format != CIFAR_RESNET:
        return unknown(True if found.classifier is not None else False if found.format in LABEL_FREE else None)
    epochs, images = 200, 50_000
    forward = count_forward(encoder, image_size)
    note = f"{epochs} epochs of {images:,} images, its trainer's defaults; a backward pass counts as two forward"
    return Bill(flops=3 * forward * epochs * images, certainty="estimated", note=note, labels=True)


def _saw_labels(method: str) -> bool | None:
    """Whether an encoder of a method of wisp learnt from labels; a probed one is as it was before."""
    if method not in methods.names():
        return None
    kinds = vars(methods.load(method)).values()
    return any(getattr(kind, "needs_labels", False) and getattr(kind, "taught", "no") != "adopted" for kind in kinds)
