"""What a person sees while a training runs: one progress bar, or a line per epoch where there is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from wisp.train.blocks import quality, warning


class ProgressBar:
    """A rich bar with loss, images/s, data wait, health, kNN and the time that is left. Use as a context."""

    def __init__(self, console: Console, *, steps: int, start: int, silent: bool = False) -> None:
        self._console, self._steps, self._silent = console, steps, silent
        self._loss, self._speed, self._wait = float("nan"), 0.0, 0.0
        self._quality = ""
        self._begun, self._first = time.perf_counter(), start
        self._estimated = False
        self._bar = Progress(
            TextColumn("{task.fields[epoch]}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            disable=silent or not console.is_terminal,
        )
        self._task: TaskID = self._bar.add_task("", total=steps, completed=start, epoch="", state="")

    def __enter__(self) -> ProgressBar:
        """Starts drawing."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaves the last state on the screen."""
        self._bar.stop()

    def on_step(self, step: int, loss: float, images_per_s: float, data_wait: float) -> None:
        """Shows the newest step; after the first few, says how long the rest will take."""
        self._loss, self._speed, self._wait = loss, images_per_s, data_wait
        state = f"loss {loss:.3f}  {images_per_s:,.0f} img/s  data {data_wait:.0%}{self._quality}"
        self._bar.update(self._task, completed=step, state=state)
        done = step - self._first
        if not self._estimated and done >= 5:
            self._estimated = True
            left = (time.perf_counter() - self._begun) / done * (self._steps - step)
            self._say(f"estimated time for the remaining {self._steps - step} steps: {duration(left)}, plus evaluation")

    def on_epoch(self, row: dict[str, Any]) -> None:
        """Shows an epoch's evaluation; a collapse warning stays on the screen."""
        found = quality(row)
        if found_warning := warning(row):
            self._say(f"[yellow]warning:[/] {found_warning}")
        self._quality = found or self._quality
        self._bar.update(self._task, epoch=f"epoch {row['epoch'] + 1}")
        if not self._console.is_terminal:
            self._say(
                f"epoch {row['epoch'] + 1}: loss {self._loss:.3f}  {self._speed:,.0f} img/s  data {self._wait:.0%}"
                f"{found}"
            )

    def _say(self, text: str) -> None:
        if not self._silent:
            self._console.print(text, highlight=False, markup=True, soft_wrap=True)
            sys.stdout.flush()


def duration(seconds: float) -> str:
    """Seconds in the words a person would use: `40 s`, `12 min`, `3 h 5 min`, `2 d 4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h"


@contextmanager
def counting(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal's stderr for work that is counted: the callback takes (done, all); elsewhere not a byte."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def say(console: Console, text: str) -> None:
    """Prints a text in which a user's names stand as they are: no wrapping, no markup, no emoji codes."""
    console.print(text, soft_wrap=True, markup=False, emoji=False)
