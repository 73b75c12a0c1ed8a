"""Pre-training from a checked run to its receipt: builds, trains, finishes."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from wisp import __version__
from wisp.cost.count import count_training
from wisp.data.loader import Loader
from wisp.errors import WispError
from wisp.evaluate.examiner import as_row, first, health_of
from wisp.files import read_json, write_json
from wisp.finishing import finish, say
from wisp.run import Run, difference, from_json, to_json
from wisp.session import Session, data_name, prepare
from wisp.train import blocks
from wisp.train.environment import environment
from wisp.train.folder import RunFolder
from wisp.train.journal import Journal, require_logger
from wisp.train.loop import Plan, Progress, fit, resume
from wisp.train.optimizers import build as build_optimizer
from wisp.train.precision import resolve as resolve_precision
from wisp.train.schedules import WarmupCosine
from wisp.train.screen import ProgressBar
from wisp.train.setup import check_processes, device_kind, fabric_for, peers, prepared

_MONITORS = (10, 50)
"""So many evaluations between epochs, where there are so many epochs; as many as `_MONITOR_STEPS` allows."""
_MONITOR_STEPS = 20
"""An evaluation costs about as much as five steps; so many steps lie between two of them."""
_CALIBRATION = {"monitor": 8, "final": 50}
"""Batches for re-estimated statistics."""


def pretrain(run: Run[Any], console: Console | None = None) -> Path:
    """Trains, evaluates and exports; resumes the run where its folder holds an unfinished one.

    Args:
        run: the whole experiment.
        console: where to write; standard output unless given.

    Returns:
        The run folder; `result.json` in it is the receipt.

    Raises:
        WispError: bad input, before anything is written; or a training that cannot go on.
        Interrupted: SIGINT or SIGTERM, after saving.
    """
    console = console or Console(highlight=False)
    folder = RunFolder(run.folder)
    folder.refuse_foreign()
    begun = _begun(run, folder)
    if folder.finished:
        say(console, f"{folder.path} is finished; its results are in {folder.result.name} and {folder.report.name}")
        return folder.path
    require_logger(run.logger)
    session = prepare(run)
    _refuse_own_questions(session)
    _refuse_changed(session, begun, folder)
    kind = device_kind(run.accelerator)
    precision = resolve_precision(begun.get("precision", run.precision), kind)
    check_processes(kind, devices=run.devices, nodes=run.nodes, batch_size=session.resolved.batch_size)
    method = session.method()
    cost = count_training(method, session.resolved.batch_size, session.spec.image_size, session.resolved.steps)
    fabric = fabric_for(
        kind=kind,
        precision=precision,
        devices=run.devices,
        nodes=run.nodes,
        deterministic=run.deterministic,
    )
    leads = fabric.is_global_zero
    if not leads:
        console = Console(quiet=True)
    method = prepared(method, fabric).to(fabric.device)
    method = method.to(memory_format=torch.channels_last)
    r = session.resolved
    optimizer = build_optimizer(
        r.optimizer,
        method,
        lr=r.lr,
        weight_decay=r.weight_decay,
        trust=r.trust,
        clip=r.clip,
        plain_lr=r.plain_lr,
    )
    progress = resume(folder.checkpoint, fabric, method, optimizer)
    loader = Loader(
        session.train,
        method.views,
        image_size=session.spec.image_size,
        mean=session.spec.mean,
        std=session.spec.std,
        batch_size=r.batch_size,
        seed=run.seed,
        device=fabric.device,
        rank=fabric.global_rank,
        world=fabric.world_size,
        workers=_workers(run.workers, kind, fabric.world_size),
        labels=method.needs_labels,
    )
    if leads:
        write_json(folder.run, {**to_json(run), "resolved": {**dataclasses.asdict(r), "precision": precision}})
        write_json(folder.environment, environment(fabric.device))
    say(
        console,
        blocks.summary(
            method=run.method_title,
            model=run.model,
            data=data_name(run.data),
            resolved=dataclasses.asdict(r),
            cost=cost,
            precision=precision,
            device=fabric.device.type,
            world=fabric.world_size,
            step=progress.step,
            evaluation=session.evaluation(),
        ),
    )
    examiner = session.examiner(fabric.device)

    def monitor(epoch: int) -> dict[str, Any]:
        method.calibrate(first(loader.epoch(0), _CALIBRATION["monitor"]))
        name, encoder = next(iter(method.encoders().items()))
        encoder.to(fabric.device)
        found = health_of(encoder, loader.epoch(0), fabric.device)
        accuracy = examiner.monitor(encoder)
        return {"knn": None if accuracy is None else {name: accuracy}, "health": as_row(found)}

    plan = Plan(
        epochs=r.epochs,
        batch_size=r.batch_size,
        schedule=WarmupCosine(lr=r.lr, steps=r.steps, warmup=r.warmup_steps),
        seed=run.seed,
        monitor_every=_monitor_every(r.epochs, r.steps_per_epoch),
    )
    with Journal(folder.path, run.logger, resumed_at=progress.step) if leads else nullcontext() as journal:
        if journal is not None:
            journal.note(_first_line(session, progress, fabric.device, precision))
        with peers(fabric), ProgressBar(console, steps=r.steps, start=progress.step, silent=not leads) as screen:
            fit(
                fabric=fabric,
                method=method,
                optimizer=optimizer,
                loader=loader,
                plan=plan,
                folder=folder.path,
                journal=journal,
                screen=screen,
                monitor=monitor,
                progress=progress,
            )
            method.calibrate(first(loader.epoch(0), _CALIBRATION["final"]))  # by all: synchronised norms need company
        if journal is not None:  # nobody waits for the first process: an evaluation may outlast any time limit
            finish(session, method, folder, loader, examiner, cost, progress, console, journal)
    return folder.path


def _refuse_own_questions(session: Session) -> None:
    """Raises WispError where every question would be its own nearest neighbour."""
    run, questions = session.run, session.questions
    if run.val is None or questions is None or Path(run.val).resolve() != Path(run.data).resolve():
        return
    if len(questions) >= len(session.train) and questions.name(0) == session.train.name(0):
        raise WispError("--val holds the training images; leave it out and a tenth of them is held out")


def _monitor_every(epochs: int, steps_per_epoch: int) -> int:
    least, most = (math.ceil(epochs / count) for count in reversed(_MONITORS))
    return max(least, min(most, math.ceil(_MONITOR_STEPS / steps_per_epoch)))


def _workers(asked: int | None, kind: str, world: int) -> int:
    """Decoding processes: beside an accelerator one core stays for the training; on a CPU they only compete with it."""
    if asked is not None:
        return asked
    return max(1, (os.cpu_count() or 1) // world - 1) if kind == "cuda" else 0


def _begun(run: Run[Any], folder: RunFolder) -> dict[str, Any]:
    """What an earlier start of this very run has resolved; empty where there was none.

    Raises:
        WispError: the folder holds another run; the keys that differ are named.
    """
    if not folder.run.exists():
        return {}
    stored = read_json(folder.run)
    changed = difference(run, from_json(json.dumps(stored), str(folder.run)))
    if changed:
        raise WispError(f"{folder.path} holds another run ({'; '.join(changed)}); name another --out")
    return dict(stored.get("resolved") or {})


def _refuse_changed(session: Session, begun: dict[str, Any], folder: RunFolder) -> None:
    """Raises WispError where the same settings have come to mean another training: the data changed, or wisp did."""
    now = dataclasses.asdict(session.resolved)
    keys = [key for key in now if key in begun and key != "source"]
    changed = [f"{key}: {begun[key]} -> {now[key]}" for key in keys if begun[key] != now[key]]
    if changed:
        reason = "; ".join(changed)
        raise WispError(f"{folder.path} was begun with other data or another wisp ({reason}); name another --out")


def _first_line(session: Session, progress: Progress, device: torch.device, precision: str) -> str:
    run, r = session.run, session.resolved
    verb = f"resumed after step {progress.step} of {r.steps}" if progress.step else "started"
    return (
        f"{verb}: wisp {__version__}, {run.method_title}, {run.model}, {data_name(run.data)} ({r.images} images), "
        f"{r.epochs} epochs of {r.steps_per_epoch} steps of {r.batch_size} images, seed {run.seed}, "
        f"{device.type}, {precision}"
    )
