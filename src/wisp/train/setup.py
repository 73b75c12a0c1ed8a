"""Fabric, made from a run's wishes."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch.nn.parallel import DistributedDataParallel

from wisp.encoders.stock import synchronised
from wisp.errors import WispError
from wisp.methods.method import Method
from wisp.subnet.subnet import Subnet
from wisp.train import precision as formats

_FULL = ("can't allocate memory", "not enough memory", "out of memory")
"""What a CPU's allocator and MPS say where CUDA has an error of its own."""


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


def check_processes(kind: str, *, devices: int, nodes: int, batch_size: int) -> None:
    """Checks that there are so many devices, and that they can share a batch.

    Raises:
        WispError: they are not, or cannot.
    """
    world = _world(devices, nodes)
    there = {"cuda": torch.cuda.device_count(), "mps": 1}.get(kind)
    if there is not None and devices > there:
        raise WispError(f"--devices {devices}: this machine has {there} of kind {kind}")
    if batch_size % world:
        raise WispError(f"a batch of {batch_size} cannot be shared by {world} processes; use a multiple of {world}")
    if kind != "cuda" and batch_size < 2 * world:
        raise WispError(
            f"a batch of {batch_size} leaves one image to each of {world} processes, and one has no statistics; "
            f"use {2 * world} or more"
        )


def _world(devices: int, nodes: int) -> int:
    return int(os.environ.get("WORLD_SIZE", devices * nodes))


def fabric_for(
    *,
    kind: str,
    precision: Literal["fp32", "bf16", "fp16"],
    devices: int,
    nodes: int,
    deterministic: bool,
    idle_parameters: bool,
) -> Fabric:
    """A launched Fabric.

    One process per device; torchrun's environment wins over `devices`. The method is wrapped as a whole, buffers are
    not broadcast: every process sees the same channel selection, and BatchNorm statistics are synchronised or its own.
    `idle_parameters` says that in some phase of the training not every parameter gets a gradient: looking for them
    costs a walk through the graph, so that only such a method pays for it.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)  # it reports what the summary block says better
    world, per_node = _world(devices, nodes), int(os.environ.get("LOCAL_WORLD_SIZE", devices))
    strategy = DDPStrategy(**_own_buffers(), find_unused_parameters=idle_parameters) if world > 1 else "auto"
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    fabric = Fabric(
        accelerator=kind,
        devices=per_node,
        num_nodes=world // per_node,
        strategy=strategy,
        precision=formats.FABRIC[precision],
    )
    fabric.launch()
    return fabric


def _own_buffers() -> dict[str, bool]:
    """What DistributedDataParallel calls buffers that nobody broadcasts before a step; the name depends on torch."""
    newer = "forward_sync_buffers"
    return {newer if newer in inspect.signature(DistributedDataParallel).parameters else "broadcast_buffers": False}


def prepared(method: Method, fabric: Fabric) -> Method:
    """Synchronised BatchNorm where several CUDA devices share a batch and the method wants it; else the same method."""
    if fabric.world_size == 1 or fabric.device.type != "cuda" or not method.synchronised:
        return method
    for part in list(method.modules()):
        if isinstance(part, Subnet):
            part.convert(synchronised)
    synchronised(method)
    return method


@contextmanager
def memory(when: str, remedy: str) -> Iterator[None]:
    """Says in one line that the device's memory is full; all other errors pass.

    Raises:
        WispError: it is.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _FULL):
            raise WispError(f"the device's memory is full {when}; {remedy}") from error
        raise


@contextmanager
def peers(fabric: Fabric) -> Iterator[None]:
    """Says in one line that another process of the run has ended, whatever a collective operation makes of that.

    Raises:
        WispError: it has.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error).lower()
        if fabric.world_size > 1 and any(word in text for word in ("gloo", "nccl", "connection", "socket")):
            raise WispError(
                "another process of this run has ended, its own message says why; start the same command again"
            ) from error
        raise


def everyones(fabric: Fabric, mine: list[str]) -> list[str]:
    """The texts of all processes, each once, in alphabetical order; every process calls it."""
    found: list[Any] = [mine]
    if fabric.world_size > 1:
        found = [None] * fabric.world_size
        torch.distributed.all_gather_object(found, mine)
    return sorted({text for texts in found for text in texts})


def any_of(fabric: Fabric, mine: bool) -> bool:
    """Whether it is so on any process; every process calls it."""
    flag = fabric.all_reduce(torch.tensor(float(mine), device=fabric.device), reduce_op="sum")
    assert isinstance(flag, torch.Tensor)
    return bool(flag.item() > 0)
