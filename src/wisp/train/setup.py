"""Fabric, made from a run's wishes."""

from __future__ import annotations

import os
from typing import Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy

from wisp.encoders.stock import synchronised
from wisp.errors import WispError
from wisp.methods.method import Method
from wisp.subnet.subnet import Subnet
from wisp.train import precision as formats


def device_kind(accelerator: Literal["auto", "cpu", "cuda", "mps"]) -> str:
    """The kind of device that a run will use.

    Raises:
        WispError: the wanted one is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if accelerator == "auto":
        return next(kind for kind in ("cuda", "mps", "cpu") if there[kind])
    if not there[accelerator]:
        raise WispError(f"--accelerator {accelerator}: this machine has none, or torch was built without it; use auto")
    return accelerator


def fabric_for(
    *, kind: str, precision: formats.Precision, devices: int, nodes: int, deterministic: bool
) -> tuple[Fabric, Literal["fp32", "bf16", "fp16"]]:
    """A launched Fabric, and the number format it uses.

    One process per device; torchrun's environment wins over `devices`. The method is wrapped as a whole, buffers are not
    broadcast: every process sees the same channel selection, and BatchNorm statistics are synchronised or its own.
    """
    chosen = formats.resolve(precision, kind)
    world = int(os.environ.get("WORLD_SIZE", devices * nodes))
    strategy = DDPStrategy(broadcast_buffers=False) if world > 1 else "auto"
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    per_node = int(os.environ.get("LOCAL_WORLD_SIZE", devices))
    fabric = Fabric(
        accelerator=kind, devices=per_node, num_nodes=nodes, strategy=strategy, precision=formats.FABRIC[chosen]
    )
    fabric.launch()
    return fabric, chosen


def prepared(method: Method, fabric: Fabric) -> Method:
    """Synchronised BatchNorm where several CUDA devices share a batch; the same method elsewhere."""
    if fabric.world_size == 1 or fabric.device.type != "cuda":
        return method
    for part in list(method.modules()):
        if isinstance(part, Subnet):
            part.convert(synchronised)
    synchronised(method)
    return method
