from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from wisp.data.cutter import Shown, Task
from wisp.data.layout import Layout
from wisp.data.pool import Pool
from wisp.errors import WispError


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_change_nothing(mixed, workers, loader, same):
    alone, helped = loader(mixed), loader(mixed, workers=workers)
    try:
        for epoch in (0, 1):
            batches = list(helped.epoch(epoch))
            assert len(batches) == 2
            assert all(map(same, alone.epoch(epoch), batches))
    finally:
        helped.close()


def test_an_epoch_may_be_left_early_with_workers(mixed, loader, same):
    data = loader(mixed, batch_size=4, workers=2)
    try:
        next(data.epoch(0))
        assert all(map(same, loader(mixed, batch_size=4).epoch(1), data.epoch(1)))
    finally:
        data.close()


def test_two_epochs_at_once_are_noticed(mixed, loader):
    """The workers answer in order: an old epoch that went on would show the new one's pictures."""
    data = loader(mixed, batch_size=4, workers=1)
    old, new = data.epoch(0), data.epoch(1)
    next(old)
    next(new)
    with pytest.raises(AssertionError, match="another one has begun"):
        next(old)
    data.close()


def test_more_workers_than_samples(mixed, loader, same):
    data = loader(mixed, batch_size=2, workers=5)
    try:
        assert same(next(data.epoch(0)), next(loader(mixed, batch_size=2).epoch(0)))
    finally:
        data.close()


def test_small_images_need_no_workers(small, loader):
    data = loader(small, workers=2)
    list(data.epoch(0))
    assert data._pool is None


def test_a_killed_worker_is_one_line(mixed, loader):
    data = loader(mixed, batch_size=2, workers=2)
    batches = data.epoch(0)
    next(batches)
    os.kill(data._pool._processes[1].pid, signal.SIGKILL)
    with pytest.raises(WispError, match="a data worker was killed"):
        list(batches)
    data.close()


def test_a_worker_that_trips_says_where(mixed, loader):
    data = loader(mixed, workers=1)
    mixed.open = lambda index: 1 / 0  # a programming error, no corrupt file
    with pytest.raises(RuntimeError, match=r"data worker failed(.|\n)*ZeroDivisionError"):
        next(data.epoch(0))
    data.close()


def test_workers_ignore_interrupts_and_end_with_the_loader(mixed, loader):
    data = loader(mixed, batch_size=4, workers=2)
    batches = data.epoch(0)
    next(batches)
    processes = list(data._pool._processes)
    for process in processes:
        os.kill(process.pid, signal.SIGINT)
    assert len(list(batches)) == 4
    assert all(process.is_alive() for process in processes)
    del batches, data
    assert not any(process.is_alive() for process in processes)


def test_workers_do_not_outlive_a_killed_parent(mixed, loader):
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()

    def middle() -> None:
        data = loader(mixed, batch_size=4, workers=2)
        next(data.epoch(0))
        there.send([process.pid for process in data._pool._processes])
        time.sleep(60)

    parent = context.Process(target=middle)
    parent.start()
    there.close()  # a parent that fails is then an EOFError, not a test without end
    workers = here.recv()
    parent.kill()
    parent.join()
    until = time.monotonic() + 20
    while any(runs(pid) for pid in workers):
        assert time.monotonic() < until, "a worker lives on"
        time.sleep(0.02)


class Slow:
    """In the place of a cutter: takes its time, and writes down every task that it begins."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def cut(self, task: Task, part: slice, out: Sequence[torch.Tensor]) -> Shown:
        with self.log.open("a") as log:
            log.write(f"{part.start}:{task.step}\n")
        time.sleep(0.4)
        return Shown([0] * (part.stop - part.start), {})


def test_workers_of_a_killed_parent_begin_nothing_more(tmp_path):
    """They hold the files that it had open, among them the lock of its run's folder."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()

    def middle() -> None:
        pool = Pool(Slow(tmp_path / "log"), 2, Layout(2, (4,)))
        batches = pool.run(Task([0, 0], step) for step in range(9))
        next(batches)
        there.send([process.pid for process in pool._processes])
        time.sleep(60)

    parent = context.Process(target=middle)
    parent.start()
    there.close()
    workers = here.recv()
    parent.kill()
    parent.join()
    gone = time.monotonic()
    while any(runs(pid) for pid in workers):
        assert time.monotonic() < gone + 20, "a worker lives on"
        time.sleep(0.02)
    begun = (tmp_path / "log").read_text().split()
    assert {"0:0", "1:0"} <= set(begun) <= {"0:0", "1:0", "0:1", "1:1"}, "step 2 was asked for too"


def test_closing_ends_the_workers_as_often_as_it_is_asked_for(mixed, loader, same):
    data = loader(mixed, batch_size=4, workers=2)
    data.close()
    batches = data.epoch(0)
    next(batches)
    processes = list(data._pool._processes)
    for _ in range(2):
        data.close()
        assert not any(process.is_alive() for process in processes)
    assert all(map(same, loader(mixed, batch_size=4).epoch(1), data.epoch(1)))
    data._pool.close()
    data._pool.close()


def runs(pid: int) -> bool:
    """Whether a process that is nobody's child here still does anything."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")
