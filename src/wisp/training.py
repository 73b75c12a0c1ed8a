"""A checked run with everything that it takes to train it, on its device and where its checkpoint left it."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric

from wisp.cost.count import TrainingCost, count_forward, count_training
from wisp.data.loader import Loader
from wisp.errors import WispError
from wisp.evaluate.examiner import Examiner
from wisp.files import read_json
from wisp.interference.record import Recorder
from wisp.methods.method import Method
from wisp.probing import flops as probe_flops
from wisp.session import Session
from wisp.train.environment import environment
from wisp.train.folder import RunFolder
from wisp.train.loop import Progress, resume
from wisp.train.optimizers import build
from wisp.train.precision import resolve as resolve_precision
from wisp.train.screen import counting
from wisp.train.setup import check_processes, device_kind, fabric_for, prepared


@dataclass(frozen=True, kw_only=True)
class Training:
    """What `assemble` made.

    Attributes:
        session: the checked run.
        folder: of the run.
        fabric: launched; knows devices, precision and processes.
        precision: `fp32`, `bf16` or `fp16`.
        method: on its device, with the state of the checkpoint if there is one.
        optimizer: likewise.
        loader: this process's share of every batch.
        examiner: of the encoders.
        cost: counted, not measured.
        progress: how far it is.
        environment: of this start, and the commits of the earlier ones.
        recorder: of gradients and weights, where the run wants them kept.
    """

    session: Session
    folder: RunFolder
    fabric: Fabric
    precision: str
    method: Method
    optimizer: torch.optim.Optimizer
    loader: Loader
    examiner: Examiner
    cost: TrainingCost
    progress: Progress
    environment: dict[str, Any]
    recorder: Recorder | None

    @property
    def resolved(self) -> dict[str, Any]:
        """Every number that the user left open, as plain values for `run.json` and the receipt."""
        chosen = {"method": found} if (found := self.method.chosen()) else {}
        return {**dataclasses.asdict(self.session.resolved), "precision": self.precision, **chosen}


def assemble(session: Session, folder: RunFolder, begun: dict[str, Any], tell: Callable[[str], None]) -> Training:
    """Launches the processes and builds everything; writes nothing but what a teacher finds, into the cache folder.

    Args:
        session: a checked run.
        folder: its folder, perhaps with a checkpoint.
        begun: what an earlier start resolved; its precision stays.
        tell: takes a line on what takes long.

    Raises:
        WispError: devices that are not there, a batch that they cannot share, a training that ends before its last
            phase, a checkpoint that does not fit, or an encoder of which no record can be kept.
    """
    run, r, spec = session.run, session.resolved, session.spec
    kind = device_kind(run.accelerator)
    precision = resolve_precision(begun.get("precision", run.precision), kind)
    check_processes(kind, devices=run.devices, nodes=run.nodes, batch_size=r.batch_size)
    session.probe(tell)
    method = session.method()
    _refuse_idle_phases(method, session)
    companions, remembered = session.companions(method.neighbours, tell), session.remembered(method.remembers, tell)
    cost = _with_remembering(count_training(method, r.batch_size, spec.image_size, r.steps), method, session)
    fabric = fabric_for(
        kind=kind,
        precision=precision,
        devices=run.devices,
        nodes=run.nodes,
        deterministic=run.deterministic,
        idle_parameters=len(method.phases()) > 1,
    )
    method = prepared(method, fabric).to(fabric.device).to(memory_format=torch.channels_last)
    optimizer = build(
        r.optimizer,
        method,
        lr=r.lr,
        weight_decay=r.weight_decay,
        trust=r.trust,
        clip=r.clip,
        plain_lr=r.plain_lr,
    )
    with counting("decoding images") as progress:
        loader = Loader(
            session.train,
            method.views,
            image_size=spec.image_size,
            mean=spec.mean,
            std=spec.std,
            batch_size=r.batch_size,
            seed=run.seed,
            device=fabric.device,
            rank=fabric.global_rank,
            world=fabric.world_size,
            workers=_workers(run.workers, kind, fabric.world_size),
            labels=method.needs_labels,
            companions=companions,
            remembered=remembered,
            progress=progress if fabric.is_global_zero else None,
        )
    return Training(
        session=session,
        folder=folder,
        fabric=fabric,
        precision=precision,
        method=method,
        optimizer=optimizer,
        loader=loader,
        examiner=session.examiner(fabric.device),
        cost=cost,
        progress=resume(folder.checkpoint, fabric, method, optimizer),
        environment=_environment(folder, fabric.device),
        recorder=_recorder(session, method, folder) if run.record else None,
    )


def _recorder(session: Session, method: Method, folder: RunFolder) -> Recorder:
    r, spec = session.resolved, session.spec
    return Recorder(
        method,
        folder.record,
        steps=r.steps,
        epochs=r.epochs,
        image_size=spec.image_size,
        features=spec.features,
    )


def _with_remembering(cost: TrainingCost, method: Method, session: Session) -> TrainingCost:
    """Adds the teacher's one look at every image, comparing or probing them, also where an earlier run paid for it."""
    teacher, images, own = session.teacher, len(session.train), len(session.task)
    if teacher is None or not (method.remembers or method.neighbours or teacher.probed):
        return cost
    looked = images if method.remembers or method.neighbours else own
    looks = looked * count_forward(teacher.encoder, teacher.own.image_size)
    comparing = 2 * images**2 * teacher.features if method.neighbours else 0
    probing = probe_flops(teacher, own, len(session.task.classes or ())) if teacher.probed else 0
    return dataclasses.replace(cost, flops=cost.flops + looks + comparing + probing)


def _refuse_idle_phases(method: Method, session: Session) -> None:
    """Raises WispError where a phase would begin after the last step; one at 1 is switched off, and may."""
    r, last = session.resolved, max(phase for phase in method.phases() if phase < 1)
    if last <= (r.steps - 1) / r.steps:
        return
    enough = math.ceil(round(1 / (1 - last), 6) / r.steps_per_epoch)
    raise WispError(
        f"{session.run.method_name} has a phase that begins at {last:g} of the training, after the last of its "
        f"{r.steps} steps; use --epochs {enough} or more, or let it begin earlier"
    )


def _workers(asked: int | None, kind: str, world: int) -> int:
    """Decoding processes: beside an accelerator one core stays for the training; on a CPU they only compete with it."""
    if asked is not None:
        return asked
    return max(1, (os.cpu_count() or 1) // world - 1) if kind == "cuda" else 0


def _environment(folder: RunFolder, device: torch.device) -> dict[str, Any]:
    """Where this start runs; a training that went on under another commit names both."""
    now = environment(device)
    before = read_json(folder.environment)["commit"] if folder.environment.exists() else None
    if before is not None and now["commit"] not in before.split(", "):
        now["commit"] = f"{before}, {now['commit']}"
    return now
