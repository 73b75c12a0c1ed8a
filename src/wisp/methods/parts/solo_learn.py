"""solo-learn's CIFAR presets (vturrisi/solo-learn, scripts/pretrain/cifar): what all of them share is said once."""

from __future__ import annotations

from typing import Literal

from wisp.methods.method import Settings


def cifar(
    file: str, *, plan: str, lr: float, weight_decay: float, optimizer: Literal["lars", "sgd"] = "lars"
) -> Settings:
    """1,000 epochs of batches of 256, ten of them warm-up, a rate that grows with the batch; LARS as it has it there.

    Args:
        file: below scripts/pretrain/cifar.
        plan: the views that it takes.
        lr: learning rate for 256 images.
        weight_decay: likewise from the file.
        optimizer: likewise.
    """
    lars = optimizer == "lars"
    return Settings(
        plan=plan,
        epochs=1000,
        batch_size=256,
        optimizer=optimizer,
        lr=lr,
        weight_decay=weight_decay,
        warmup_epochs=10,
        trust=0.02 if lars else Settings.trust,
        clip=lars,
        lr_scale="linear",
        source=f"solo-learn, scripts/pretrain/cifar/{file}",
    )
