"""Worker processes that cut crops into shared memory, a few batches ahead of the training.

Every worker owns a fixed part of each batch: the first batch is there after one part's time, and the memory does not
grow with the number of workers. A batch is the flat block of a `Layout`, whose crops may have several sides.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import traceback
from collections import deque
from collections.abc import Iterator
from itertools import cycle
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
from torch import Tensor

from wisp.data.cutter import Cutter, Shown, Task
from wisp.data.layout import Layout
from wisp.errors import WispError

_SLOTS = 3  # batches in shared memory: one in use, two in preparation


class Pool:
    """`workers` processes around one cutter; they start here and outlive epochs.

    Args:
        cutter: what every worker does.
        workers: how many, at least 1.
        layout: of a batch.
    """

    def __init__(self, cutter: Cutter, workers: int, layout: Layout) -> None:
        # A forked worker shares the images with its parent; macOS cannot fork safely and gets a pickled source.
        context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        memory = context.RawArray(ctypes.c_uint8, _SLOTS * layout.numbers)  # not limited by a small /dev/shm
        self._slots = _batches(memory)
        self._unanswered = 0
        self._runs = 0
        self._owner = os.getpid()
        self._pipes: list[Connection] = []
        self._processes = []
        for worker in range(workers):
            part = slice(layout.batch * worker // workers, layout.batch * (worker + 1) // workers)
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(cutter, part, memory, layout, there), daemon=True)
            process.start()
            there.close()  # so that a dead worker is seen as the end of its pipe
            self._pipes.append(here)
            self._processes.append(process)

    def run(self, tasks: Iterator[Task]) -> Iterator[tuple[Task, Tensor, Shown]]:
        """Prepare batches in order, two ahead of the one that is handed out.

        Yields:
            The task, its crops as a uint8 block of the layout (in shared memory, valid until the next one is asked
            for), and the images that they show.

        Raises:
            WispError: a worker process was killed.
        """
        self._runs += 1
        run = self._runs
        while self._unanswered:  # left over from an epoch that was not taken to its end
            self._answer()
        waiting: deque[tuple[Task, int]] = deque()
        for task, slot in zip(tasks, cycle(range(_SLOTS)), strict=False):
            assert run == self._runs, "an epoch cannot go on after another one has begun"
            self._ask(task, slot)
            waiting.append((task, slot))
            if len(waiting) == _SLOTS:
                done, place = waiting.popleft()
                yield done, self._slots[place], self._answer()
        for done, place in waiting:
            assert run == self._runs, "an epoch cannot go on after another one has begun"
            yield done, self._slots[place], self._answer()

    def close(self) -> None:
        """End the workers, at once; a second time nothing happens."""
        if os.getpid() != self._owner:  # a forked copy of this object ends nobody
            return
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()
        for pipe in self._pipes:
            pipe.close()
        self._processes, self._pipes = [], []

    def __del__(self) -> None:
        self.close()

    def _ask(self, task: Task, slot: int) -> None:
        try:
            for pipe in self._pipes:
                pipe.send((task, slot))
        except OSError as problem:
            raise _killed() from problem
        self._unanswered += 1

    def _answer(self) -> Shown:
        """What the workers made of the oldest task."""
        index: list[int] = []
        corrupt: dict[int, str] = {}
        for pipe in self._pipes:
            try:
                part = pipe.recv()
            except (EOFError, OSError) as problem:
                raise _killed() from problem
            if isinstance(part, str):
                raise RuntimeError(f"a data worker failed:\n{part}")
            index += part.index
            corrupt |= part.corrupt
        self._unanswered -= 1
        return Shown(index, corrupt)


def _batches(memory: Any) -> Tensor:
    return torch.frombuffer(memory, dtype=torch.uint8).view(_SLOTS, -1)


def _killed() -> WispError:
    return WispError(
        "a data worker was killed, most likely for lack of memory: use fewer workers, then start the same command again"
    )


def _work(cutter: Cutter, part: slice, memory: Any, layout: Layout, pipe: Connection) -> None:
    """A worker's life: one part of one batch after another, until the parent has gone; at most the current one then."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent finishes its step and then ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # whatever handler the parent has is not for this process
    torch.set_num_threads(1)  # before any operation: OpenMP's threads do not survive a fork
    slots = [layout.views(block) for block in _batches(memory)]
    parent: Any = multiprocessing.parent_process()
    # A sentinel wakes an idle worker, but it may come late: workers that started later hold a copy of its other end. A
    # busy one would first work off what a killed parent had asked for, with the lock of the run's folder in its hands.
    while pipe in wait([pipe, parent.sentinel]) and os.getppid() == parent.pid:
        try:
            task, slot = pipe.recv()
        except EOFError:
            return
        try:
            answer: Shown | str = cutter.cut(task, part, slots[slot])
        except Exception:
            answer = traceback.format_exc()
        try:
            pipe.send(answer)
        except OSError:  # the parent went away meanwhile
            return
