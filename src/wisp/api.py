"""What the command line calls: pretrain, evaluate, export, load, report, compare."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from rich.console import Console

from wisp import methods
from wisp.cost.count import count_step
from wisp.data.loader import Loader
from wisp.data.sources import Source, open_source, split_source
from wisp.data.sources.named import canonical
from wisp.encoders import stock
from wisp.encoders.stock import EncoderSpec
from wisp.errors import WispError
from wisp.evaluate.examiner import Examiner, as_row, first, health_of
from wisp.methods.method import Method, Surroundings
from wisp.resolve import Resolved, plan_of, resolve
from wisp.run import Run, difference, from_json, to_json
from wisp.train.environment import environment
from wisp.train.folder import RunFolder, write_json
from wisp.train.journal import Journal, text_log
from wisp.train.loop import Plan, Progress, fit, resume
from wisp.train.optimizers import build as build_optimizer
from wisp.train.schedules import WarmupCosine
from wisp.train.screen import ProgressBar
from wisp.train.setup import device_kind, fabric_for, prepared

_MONITORS = 50
"""At most so many evaluations between epochs."""
_CALIBRATION = {"monitor": 8, "final": 50}
"""Batches for re-estimated statistics."""


def method_class(module: ModuleType) -> Callable[[Any, torch.nn.Module, Surroundings], Method]:
    """The one subclass of `Method` that a method's file defines."""
    return next(
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Method) and kind.__module__ == module.__name__
    )


def sources(run: Run[Any]) -> tuple[Source, Source | None, Source | None]:
    """Training images, and the labelled images (neighbours, questions) for evaluation where there are any."""
    train = open_source(run.data, "train", run.subset)
    if run.val is not None:
        test = open_source(run.val, "test")
        if test.classes is None:
            raise WispError(f"--val {run.val} has no labels; use class folders or a parquet file with a label column")
        if train.classes is None:
            return train, *split_source(test, 0.5, seed=run.seed)
        if tuple(train.classes) != tuple(test.classes):
            raise WispError(f"--val has other classes than --data: {len(test.classes)} and {len(train.classes)}")
        return train, train, test
    if train.classes is None:
        return train, None, None
    if canonical(run.data) is not None:
        return train, train, open_source(run.data, "test")
    train, test = split_source(train, seed=run.seed)
    return train, train, test


@dataclasses.dataclass
class Session:
    """Everything of one run that is built before its first step."""

    run: Run[Any]
    spec: EncoderSpec
    resolved: Resolved
    train: Source
    neighbours: Source | None
    questions: Source | None
    module: ModuleType

    def method(self) -> Method:
        """The method with fresh weights from the run's seed."""
        torch.manual_seed(self.run.seed)
        classes = self.train.classes
        surroundings = Surroundings(
            features=self.spec.features,
            image_size=self.spec.image_size,
            images=len(self.train),
            batch_size=self.resolved.batch_size,
            plan=plan_of(self.resolved),
            classes=None if classes is None else len(classes),
        )
        return method_class(self.module)(self.run.method, self.untrained(), surroundings)

    def untrained(self) -> torch.nn.Module:
        """The encoder as every method receives it."""
        torch.manual_seed(self.run.seed)
        return self.spec.build()


def prepare(run: Run[Any]) -> Session:
    """Checks a run against its data and encoder, and writes nothing.

    Raises:
        WispError: whatever is wrong with it, in one line.
    """
    module = methods.load(run.method_name)
    spec = stock.spec(run.model, run.image_size, run.stem)
    train, neighbours, questions = sources(run)
    resolved = resolve(run, module.SETTINGS, spec, len(train))
    session = Session(run, spec, resolved, train, neighbours, questions, module)
    if method_class(module).needs_labels and train.classes is None:  # type: ignore[attr-defined]
        raise WispError(f"method {run.method_name} needs labels; use class folders or a parquet with a label column")
    return session


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
    if folder.run.exists():
        changed = difference(run, from_json(folder.run.read_text(encoding="utf-8"), str(folder.run)))
        if changed:
            raise WispError(f"{folder.path} holds another run ({'; '.join(changed)}); name another --out")
        if folder.finished:
            console.print(f"{folder.path} is finished; its results are in {folder.result.name} and {folder.report.name}")
            return folder.path
    session = prepare(run)
    kind = device_kind(run.accelerator)
    method = session.method()
    cost = count_step(method, session.resolved.batch_size, session.spec.image_size)
    fabric, precision = fabric_for(
        kind=kind,
        precision=run.precision,
        devices=run.devices,
        nodes=run.nodes,
        deterministic=run.deterministic,
    )
    leads = fabric.is_global_zero
    method = prepared(method, fabric).to(fabric.device, memory_format=torch.channels_last)  # type: ignore[assignment]
    r = session.resolved
    optimizer = build_optimizer(
        r.optimizer, method, lr=r.lr, weight_decay=r.weight_decay, trust=r.trust, clip=r.clip
    )
    progress = resume(folder.checkpoint, method, optimizer) if folder.checkpoint.exists() else Progress()
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
        workers=run.workers or 0,
        labels=method.needs_labels,
    )
    if leads:
        folder.path.mkdir(parents=True, exist_ok=True)
        write_json(folder.run, {**to_json(run), "resolved": {**dataclasses.asdict(r), "precision": precision}})
        write_json(folder.environment, environment(fabric.device))
    fabric.barrier()
    console.print(f"{run.method_name} {cost} {r}")
    journal = Journal(folder.path, run.logger if leads else "none", resumed_at=progress.step)
    examiner = Examiner(
        session.spec, session.neighbours, session.questions, device=fabric.device, batch_size=r.batch_size
    )

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
        monitor_every=max(1, r.epochs // _MONITORS),
    )
    with ProgressBar(console, steps=r.steps, start=progress.step, silent=not leads) as screen:
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
    return folder.path
