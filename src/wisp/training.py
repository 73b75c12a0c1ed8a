"""A checked run with everything that it takes to train it, on its device and where its checkpoint left it."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric import Fabric

from wisp.cost.count import TrainingCost, count_forward, count_training
from wisp.cost.ledger import Ahead
from wisp.cost.road import machine_name
from wisp.data.loader import Loader
from wisp.data.sources import Source
from wisp.dividing import data_name
from wisp.errors import WispError
from wisp.evaluate.examiner import Examiner
from wisp.files import read_json
from wisp.interference.record import Recorder
from wisp.methods.method import Method
from wisp.session import Session
from wisp.teachers.bags import bag_file
from wisp.teachers.probe import TeacherProbe
from wisp.teachers.probe import flops as probe_flops
from wisp.teachers.remembering import file_of, noted_seconds
from wisp.train.environment import environment, hardware
from wisp.train.folder import RunFolder
from wisp.train.loop import Progress, resume
from wisp.train.optimizers import build
from wisp.train.precision import resolve as resolve_precision
from wisp.train.screen import counting
from wisp.train.setup import check_processes, device_kind, fabric_for, memory, prepared


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
        ahead: the part of it that is paid once, before the first step.
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
    ahead: dict[Literal["probe", "looks"], Ahead]
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
    method = session.method()
    _refuse_idle_phases(method, session)
    if run.record:
        _refuse_frozen_encoders(method, run.method_name)
    if session.probe_teacher(tell):  # whatever is wrong with the settings was said before the teacher's look
        method = session.method()
    companions, remembered = session.companions(method.neighbours, tell), session.remembered(method.remembers, tell)
    cost, ahead = count_training(method, r.batch_size, spec.image_size, r.steps), _ahead(method, session)
    cost = dataclasses.replace(cost, flops=cost.flops + sum(each.flops for each in ahead.values()))
    fabric = fabric_for(
        kind=kind,
        precision=precision,
        devices=run.devices,
        nodes=run.nodes,
        deterministic=run.deterministic,
        idle_parameters=len(method.phases()) > 1,
    )
    with memory("before the first step", "name a smaller --model, or a smaller teacher if there is one"):
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
        ahead=ahead,
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


def _ahead(method: Method, session: Session) -> dict[Literal["probe", "looks"], Ahead]:
    """The teacher's one look at every image, comparing and probing them, also where an earlier run paid for it."""
    teacher, task, train = session.teacher, session.task, session.train
    if teacher is None or not (method.remembers or method.neighbours or teacher.probed):
        return {}
    data, device, looked = data_name(session.run.data), session.device, set[Path]()
    each, machine = count_forward(teacher.encoder, teacher.own.image_size), machine_name(hardware(device))

    def look(source: Source, shown: Literal["features", "embeddings"]) -> list[Ahead]:
        """What making a file costs; nothing where it was made for another purpose."""
        file = file_of(teacher, source, shown, data)
        if file in looked:
            return []
        looked.add(file)
        return [Ahead(flops=len(source) * each, seconds=noted_seconds(file, device), machine=machine)]

    found: dict[Literal["probe", "looks"], Ahead] = {}
    if isinstance(fit := teacher.classifier, TeacherProbe):
        fitting = probe_flops(teacher, len(task), len(task.classes or ()))
        found["probe"] = _sum([*look(task, "features"), Ahead(flops=fitting, seconds=fit.seconds, machine=machine)])
    looks = []
    if method.neighbours:
        finding = noted_seconds(bag_file(teacher, train, method.neighbours, data), device)
        comparing = Ahead(flops=2 * len(train) ** 2 * teacher.features, seconds=finding, machine=machine)
        looks += [*look(train, "features"), comparing]
    if method.remembers:
        looks += look(train, session.shown)
    return found | ({"looks": _sum(looks)} if looks else {})


def _sum(parts: Sequence[Ahead]) -> Ahead:
    """Of one machine."""
    seconds = [part.seconds for part in parts]
    whole = None if None in seconds else sum(each for each in seconds if each is not None)
    return Ahead(flops=sum(part.flops for part in parts), seconds=whole, machine=parts[0].machine)


def _refuse_frozen_encoders(method: Method, name: str) -> None:
    if not any(each.requires_grad for encoder in method.encoders().values() for each in encoder.parameters()):
        raise WispError(f"--record keeps how an encoder learns, and {name} leaves it as it is; leave the option out")


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
