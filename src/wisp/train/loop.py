"""The training loop, in the order in which things happen."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from wisp.data.loader import Loader
from wisp.errors import WispError
from wisp.interference.record import Recorder
from wisp.methods.method import Method
from wisp.train import blocks, checkpoint
from wisp.train.interrupt import Interrupted, StopRequest
from wisp.train.journal import Journal
from wisp.train.optimizers import set_lr
from wisp.train.rows import Rows, Screen
from wisp.train.schedules import WarmupCosine
from wisp.train.setup import any_of, everyones, memory

_SAVE_SECONDS = 600.0
_LESS = "lower --batch-size or --image-size (gradients are not accumulated: that would change a loss over the batch)"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Budget of a training."""

    epochs: int
    batch_size: int
    """Global batch."""
    schedule: WarmupCosine
    seed: int
    monitor_every: int
    """Epochs between two evaluations of the exported encoder; the last epoch is left to the final evaluation."""


@dataclass
class Progress:
    """How far a training is; stored in the checkpoint."""

    step: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    replaced: list[str] = field(default_factory=list)
    """"name: reason" of the corrupt images met so far, by any process."""


Monitor = Callable[[int], dict[str, Any]]


def fit(
    *,
    fabric: Fabric,
    method: Method,
    optimizer: torch.optim.Optimizer,
    loader: Loader,
    plan: Plan,
    folder: Path,
    journal: Journal | None,
    screen: Screen,
    monitor: Monitor,
    progress: Progress,
    recorder: Recorder | None = None,
) -> Progress:
    """Trains `method` to the end of `plan`, from where `progress` stands.

    Args:
        fabric: launched; knows devices, precision and processes.
        method: already on its device and, when resumed, with its state.
        optimizer: over the method's parameters, likewise.
        loader: delivers this process's share of every global batch.
        plan: the budget.
        folder: the run folder; receives `checkpoints/last.ckpt`.
        journal: receives a row per step and per epoch; None on every process but the first.
        screen: shows them (silent on the other processes).
        monitor: epoch -> the evaluation of the exported encoder; every process calls it.
        progress: from `resume`, or a fresh one.
        recorder: keeps gradients and weights, where that is wanted; None on every process but the first.

    Raises:
        Interrupted: after SIGINT or SIGTERM, with everything saved.
        WispError: a loss term is not finite, the device's memory is full, or the disk is.
    """
    inner = optimizer
    wrapped, optimizer = fabric.setup(method, optimizer)
    wrapped.train()
    per_epoch, total = loader.steps_per_epoch, plan.epochs * loader.steps_per_epoch
    rows = Rows(plan.batch_size, journal, screen, device=fabric.device)
    stop = StopRequest()

    def save() -> None:
        rows.flush()
        if fabric.is_global_zero:
            state = {
                "method": method.state_dict(),
                "optimizer": optimizer.state_dict(),
                "precision": fabric.strategy.precision.state_dict(),  # fp16's gradient scale
                "progress": vars(progress),
            }
            checkpoint.save(folder / "checkpoints" / "last.ckpt", state)

    def stop_if_asked() -> None:
        alone = fabric.world_size == 1
        if not alone and progress.step % rows.limit and progress.step % per_epoch:
            return  # to ask the others is to wait for the device; all of them count the same steps
        if stop.asked if alone else any_of(fabric, stop.asked):
            save()
            fabric.barrier()  # a launcher that sees another process end kills this one, perhaps while it saves
            raise Interrupted(progress.step, total)

    if recorder is not None and progress.step == 0:
        recorder.weights(0, 0)
    with stop:
        last_save = clock = time.perf_counter()
        while progress.step < total:
            epoch, done = divmod(progress.step, per_epoch)
            if done == 0:
                method.before_epoch(epoch)
            for batch in loader.epoch(epoch, start=done):
                fraction = progress.step / total
                rate = plan.schedule.at(progress.step) * method.lr_factor(fraction)
                set_lr(optimizer, rate)
                _seed_step(plan.seed, progress.step, fabric.global_rank)
                with memory(f"at batch size {plan.batch_size}", _LESS):
                    optimizer.zero_grad(set_to_none=True)
                    terms = wrapped(batch, fraction)
                    fabric.backward(torch.stack(list(terms.values())).sum())
                    if recorder is not None and recorder.due(progress.step):
                        fabric.strategy.precision.unscale_gradients(inner)  # fp16's; of the wrapper it would be twice
                        recorder.gradients(progress.step)
                    optimizer.step()
                method.after_step(fraction)
                progress.step += 1
                now = time.perf_counter()
                rows.add(progress.step, epoch, rate, terms, now - clock, loader.waited)
                progress.seconds += now - clock
                progress.waited += loader.waited
                clock = now
                if progress.step % per_epoch:  # a whole epoch is saved below, together with its row
                    stop_if_asked()
                    if now - last_save > _SAVE_SECONDS:
                        save()
                        last_save = clock = time.perf_counter()
            rows.flush()  # on an accelerator this waits for the last steps: it belongs to their time
            progress.seconds += time.perf_counter() - clock
            row = {"kind": "epoch", "epoch": epoch, "step": progress.step, "seconds": progress.seconds}
            due = (epoch + 1) % plan.monitor_every == 0 and progress.step < total
            row |= monitor(epoch) if due else {"knn": None, "top1": None, "health": None}
            with torch.no_grad(), fabric.autocast():
                row["diagnostics"] = method.diagnose(batch)
            method.train()
            met = [text for text in everyones(fabric, loader.replaced) if text not in progress.replaced]
            progress.replaced += met
            if journal is not None:
                journal.write(row)
                for text in met:
                    journal.note(f"unreadable, replaced by the next good image: {text}")
                if warning := blocks.warning(row):
                    journal.note(f"warning: {warning}")
                journal.note(f"epoch {epoch + 1} of {plan.epochs}: loss {rows.loss:.4f}{blocks.quality(row)}")
            screen.on_epoch(row)
            if recorder is not None:
                recorder.weights(progress.step, epoch + 1)
            save()
            stop_if_asked()
            last_save = clock = time.perf_counter()
    return progress


def resume(path: Path, fabric: Fabric, method: Method, optimizer: torch.optim.Optimizer) -> Progress:
    """Puts the state of the checkpoint at `path`, if there is one, into `method`, `optimizer` and `fabric`.

    Raises:
        WispError: the file is not readable, is of another method, encoder or optimizer, or is not the same for all
            processes.
    """
    progress = _restored(path, fabric, method, optimizer) if path.exists() else Progress()
    if len(everyones(fabric, [str(progress.step)])) > 1:
        raise WispError(f"the processes see different checkpoints as {path}; name an --out that all machines share")
    return progress


def _restored(path: Path, fabric: Fabric, method: Method, optimizer: torch.optim.Optimizer) -> Progress:
    state = checkpoint.load(path)
    try:
        method.load_state_dict(state["method"])
        optimizer.load_state_dict(state["optimizer"])
        fabric.strategy.precision.load_state_dict(state["precision"])
        return Progress(**state["progress"])
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise WispError(f"{path} does not fit this method and encoder ({reason}); use another --out") from error


def _seed_step(seed: int, step: int, rank: int) -> None:
    """Dropout and drop-path draw from a generator that depends on the step alone: a resume needs no stored state."""
    digest = hashlib.blake2b(f"step {seed} {step} {rank}".encode(), digest_size=8).digest()
    torch.manual_seed(int.from_bytes(digest, "little") >> 1)
