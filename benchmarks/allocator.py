"""A step where freed memory is kept beside the same step where the C library returns it to the system, in turns.

ResNet-20x4 at 32 px, the largest network of the receipts on CIFAR-10: forward and backward with random views, and the
frozen pass of a teacher. Both contenders are processes of their own, since the setting is a process's; only one works
at a time.

    python -m benchmarks.allocator [--repeats 7] [--threads 2] > results/benchmarks/allocator.jsonl

One JSON object a line: work, batch, kept_over_returned.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection

import torch

from benchmarks.clock import confine, interleaved, line, ratio, seconds, surroundings
from wisp.allocator import keep_freed_memory
from wisp.encoders import stock
from wisp.train import precision

MODEL = "resnet20x4"
PX = 32
WORK = ("training step", "frozen pass")


def job(work: str, batch: int, *, model: str = MODEL) -> Callable[[], None]:
    """One of `WORK` in channels_last memory and the precision that `auto` means here."""
    torch.manual_seed(0)
    trains = work == WORK[0]
    network = stock.spec(model, PX).build().to(memory_format=torch.channels_last).train(trains)
    x = torch.randn(batch, 3, PX, PX).contiguous(memory_format=torch.channels_last)
    low = precision.resolve("auto", "cpu") == "bf16"

    def once() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=low), torch.inference_mode(not trains):
            outputs = network(x)
        if trains:
            outputs.float().square().mean().backward()

    return once


def serve(pipe: Connection, keeps: bool, threads: int, batch: int, model: str) -> None:
    """A contender's process: works once for each word received, and says so; an empty word ends it."""
    if keeps:
        keep_freed_memory()
    torch.set_num_threads(threads)
    jobs = {work: job(work, batch, model=model) for work in WORK}
    pipe.send("")
    while word := pipe.recv():
        jobs[word]()
        pipe.send("")


@contextlib.contextmanager
def contender(keeps: bool, threads: int, batch: int, model: str) -> Iterator[Callable[[str], None]]:
    """Starts a process of `serve` and ends it; what it yields has it do some work."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there, keeps, threads, batch, model), daemon=True)
    process.start()
    there.close()
    here.recv()

    def ask(work: str) -> None:
        here.send(work)
        here.recv()

    try:
        yield ask
    finally:
        here.send("")
        process.join()


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints one line for each kind of work."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--model", default=MODEL)
    options = parser.parse_args(arguments)
    if not keep_freed_memory():  # asked here for the answer; contenders are processes of their own
        parser.exit(2, "allocator: this system's C library has no such setting\n")
    confine(options.threads)
    about = surroundings("allocator", repeats=options.repeats)
    place = (options.threads, options.batch, options.model)
    with contender(True, *place) as kept, contender(False, *place) as returned:
        for work in WORK:
            turns = {"kept": partial(kept, work), "returned": partial(returned, work)}
            times = interleaved(turns, repeats=options.repeats, warmup=options.warmup)
            measured = {
                "work": work,
                "kept_over_returned": ratio(times, "kept", "returned"),
                "model": options.model,
                "batch": options.batch,
                "seconds": seconds(times),
                "precision": precision.resolve("auto", "cpu"),
                "px": PX,
            }
            print(line(measured, about))
            sys.stdout.flush()


if __name__ == "__main__":
    main()
