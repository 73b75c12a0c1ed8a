"""Pre-training from a run to its receipt: check, assemble, train, finish."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from wisp import __version__, methods
from wisp.data.extra import pathless
from wisp.data.sources import shown
from wisp.dividing import data_name
from wisp.errors import WispError
from wisp.evaluate.examiner import as_row, first, health_of
from wisp.files import read_json, write_json
from wisp.finishing import finish
from wisp.run import Run, difference, from_json, to_json
from wisp.session import Session, prepare
from wisp.train import blocks
from wisp.train.folder import RunFolder
from wisp.train.journal import Journal, require_logger
from wisp.train.loop import Plan, fit
from wisp.train.schedules import WarmupCosine
from wisp.train.screen import ProgressBar, say
from wisp.train.setup import peers
from wisp.training import Training, assemble

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
    _refuse_changed(session, begun, folder)
    training = assemble(session, folder, begun, partial(say, console))
    leads = training.fabric.is_global_zero
    if not leads:
        console = Console(quiet=True)
    with ExitStack() as stack:
        journal = stack.enter_context(_journal(training)) if leads else None
        stack.enter_context(closing(training.loader))
        say(console, _summary(training))
        _train(training, journal, console)
        if journal is not None:  # nobody waits for the first process: an evaluation may outlast any time limit
            finish(training, journal, console)
    return folder.path


def distill(run: Run[Any], console: Console | None = None) -> Path:
    """`pretrain` of a method with a teacher, under the name that its users look for.

    Raises:
        WispError: the method has none; or as `pretrain`.
    """
    methods.refuse_untaught(run.method_name, run.method)
    return pretrain(run, console)


@contextmanager
def _journal(training: Training) -> Iterator[Journal]:
    """Takes the folder, writes down what is trained where, and opens the journal; on the first process only."""
    folder, run, progress = training.folder, training.session.run, training.progress
    with folder.held():  # first of all: a second start must not touch any of the files
        write_json(folder.run, {**to_json(run), "resolved": training.resolved})
        write_json(folder.environment, training.environment)
        with Journal(folder.path, run.logger, resumed_at=progress.step) as journal:
            journal.note(_first_line(training))
            for text in training.method.warnings():
                journal.note(f"warning: {text}")
            yield journal


def _train(training: Training, journal: Journal | None, console: Console) -> None:
    """From where the checkpoint stands to the last step, and the statistics that the exported encoders need."""
    fabric, method, loader, r = training.fabric, training.method, training.loader, training.session.resolved

    def monitor(epoch: int) -> dict[str, Any]:
        method.calibrate(first(loader.epoch(0), _CALIBRATION["monitor"]))
        name, encoder = next(iter(method.encoders().items()))
        encoder.to(fabric.device)
        found = health_of(encoder, loader.epoch(0), fabric.device)
        knn, top1 = training.examiner.monitor(encoder, method.classifiers().get(name)) or (None, None)
        return {
            "knn": None if knn is None else {name: knn},
            "top1": None if top1 is None else {name: top1},
            "health": as_row(found),
        }

    plan = Plan(
        epochs=r.epochs,
        batch_size=r.batch_size,
        schedule=WarmupCosine(lr=r.lr, steps=r.steps, warmup=r.warmup_steps),
        seed=training.session.run.seed,
        monitor_every=_monitor_every(r.epochs, r.steps_per_epoch),
    )
    silent = not fabric.is_global_zero
    with (
        peers(fabric),
        ProgressBar(console, steps=r.steps, start=training.progress.step, silent=silent) as screen,
    ):
        fit(
            fabric=fabric,
            method=method,
            optimizer=training.optimizer,
            loader=loader,
            plan=plan,
            folder=training.folder.path,
            journal=journal,
            screen=screen,
            monitor=monitor,
            progress=training.progress,
            recorder=None if silent else training.recorder,
        )
        method.calibrate(first(loader.epoch(0), _CALIBRATION["final"]))  # by all: synchronised norms need company


def _monitor_every(epochs: int, steps_per_epoch: int) -> int:
    """Epochs between two evaluations."""
    fewest, most = _MONITORS
    return max(math.ceil(epochs / most), min(max(1, epochs // fewest), math.ceil(_MONITOR_STEPS / steps_per_epoch)))


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
        raise WispError(f"{folder.path} holds another run ({shown(changed)}); name another --out")
    return dict(stored.get("resolved") or {})


def _refuse_changed(session: Session, begun: dict[str, Any], folder: RunFolder) -> None:
    """Raises WispError where the same settings have come to mean another training: the data changed, or wisp did."""
    now = dataclasses.asdict(session.resolved)
    keys = [key for key in now if key in begun and key != "source"]
    changed = [f"{key}: {begun[key]} -> {now[key]}" for key in keys if begun[key] != now[key]]
    if changed:
        reason = "; ".join(changed)
        raise WispError(f"{folder.path} was begun with other data or another wisp ({reason}); name another --out")


def _summary(training: Training) -> str:
    session = training.session
    return blocks.summary(
        method=session.run.method_title,
        model=session.run.model,
        data=data_name(session.run.data),
        extra=None if session.mixed is None else session.mixed.told(),
        resolved=dataclasses.asdict(session.resolved),
        teacher=session.teacher,
        learns=training.method.taught == "online",
        chosen=training.method.chosen(),
        warnings=training.method.warnings(),
        cost=training.cost,
        precision=training.precision,
        device=training.fabric.device.type,
        world=training.fabric.world_size,
        step=training.progress.step,
        evaluation=session.evaluation(),
    )


def _first_line(training: Training) -> str:
    run, r, step = training.session.run, training.session.resolved, training.progress.step
    extra = "" if run.extra is None else f", {r.extra} of them extra: {pathless(run.extra)}"
    verb = f"resumed after step {step} of {r.steps}" if step else "started"
    return (
        f"{verb}: wisp {__version__}, {run.method_title}, {run.model}, {data_name(run.data)} "
        f"({r.images} images{extra}), {r.epochs} epochs of {r.steps_per_epoch} steps of {r.batch_size} images, "
        f"seed {run.seed}, {training.fabric.device.type}, {training.precision}"
    )
