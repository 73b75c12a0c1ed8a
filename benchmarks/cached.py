"""Training with a teacher's features from disk beside plain supervised training: steps with their data, in turns.

ResNet-20 at 32 px, fp32, batches of 64 and 256, each method's small setting. A turn is part of an epoch as `wisp`
trains it: the loader's order, crops and flips, the rows of the images shown, forward, backward and the optimizer, and
what moves after a step, with freed memory kept as `wisp` keeps it; journal, checkpoint and evaluation, the same for
all, are left out. Images are noise, as many as CIFAR-10 has. CRD has a row for every one, all written, as in every
epoch but the first. The teacher's rows are random, in a mapped file as wide as that of ResNet-20x4: what they hold does
not change the time.

    python -m benchmarks.cached [--repeats 7] [--threads 2] > results/benchmarks/cached.jsonl

One JSON object a line: method, batch, cached_over_supervised (at most 1.10).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import step
from benchmarks.clock import confine, interleaved, line, ratio, seconds, surroundings
from benchmarks.noise import Noise
from wisp.allocator import keep_freed_memory
from wisp.data.loader import Batch, Loader
from wisp.data.sources import Source
from wisp.encoders import stock
from wisp.methods.crd import CRD
from wisp.methods.method import Method
from wisp.teachers.remembering import whole

METHODS = ("kd", "srrl", "crd", "au")
BATCHES = (64, 256)
"""RepDistiller's, and one that leaves a processor less to wait for."""
LIMIT = 1.10
IMAGES_A_TURN = 2_560


def features(path: Path, images: int) -> Tensor:
    """Random rows in a mapped file, float16 [N,D], as a teacher's are kept."""
    shape = (images, stock.spec(step.TEACHER, step.PX).features)
    generator = np.random.default_rng(0)
    np.save(path, generator.standard_normal(shape, dtype=np.float32).astype(np.float16))
    kept = whole(path, shape, np.float16)
    assert kept is not None
    return kept


def batches(loader: Loader) -> Iterator[Batch]:
    """Without an end: epoch after epoch."""
    epoch = 0
    while True:
        yield from loader.epoch(epoch)
        epoch += 1


def turn(trained: Method, loader: Loader) -> Callable[[], None]:
    """Every call trains on for as many steps as take `IMAGES_A_TURN` images."""
    assert trained.views == loader.plan
    coming, one = batches(loader), step.trainer(trained)

    def some() -> None:
        trained.before_epoch(1)
        for _ in range(max(1, IMAGES_A_TURN // loader.batch_size)):
            one(next(coming))

    return some


def method(name: str, batch: int) -> Method:
    """A method that has a teacher's features from disk, in its second epoch."""
    made = step.method(name, batch, cached=True)
    if isinstance(made, CRD):
        generator = torch.Generator().manual_seed(0)
        for index in torch.arange(step.IMAGES).split(500):
            fresh = torch.randn(len(index), *made.bank.keys.shape[1:], generator=generator)
            made.bank.put(index, index % step.CLASSES, F.normalize(fresh, dim=2))
    return made


def measure(source: Source, rows: Tensor, batch: int, *, repeats: int, warmup: int) -> Iterator[dict[str, Any]]:
    """The rows of one batch size."""
    spec, plain = stock.spec(step.MODEL, step.PX), step.method("supervised", batch)
    bare, told = (
        Loader(
            source,
            plain.views,
            image_size=spec.image_size,
            mean=spec.mean,
            std=spec.std,
            batch_size=batch,
            seed=0,
            labels=True,
            remembered=each,
        )
        for each in (None, rows)
    )
    contenders = {"supervised": turn(plain, bare)}
    for name in METHODS:
        contenders[name] = turn(method(name, batch), told)
    times = interleaved(contenders, repeats=repeats, warmup=warmup)
    for name in METHODS:
        both = {each: times[each] for each in ("supervised", name)}
        yield {
            "method": name,
            "cached_over_supervised": ratio(times, name, "supervised"),
            "limit": LIMIT,
            "model": step.MODEL,
            "features": rows.shape[1],
            "batch": batch,
            "seconds": {"cached" if each == name else each: value for each, value in seconds(both).items()},
        }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7, help="interleaved turns of each; 5 or more for a result")
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    confine(options.threads)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as scratch:
        source = Noise(step.IMAGES, side=step.PX, classes=step.CLASSES)
        rows = features(Path(scratch) / "rows.npy", len(source))
        for batch in BATCHES:
            about = surroundings("cached", repeats=options.repeats, packages=("timm",))
            for row in measure(source, rows, batch, repeats=options.repeats, warmup=options.warmup):
                print(line(row | {"precision": "fp32", "px": step.PX}, about), flush=True)


if __name__ == "__main__":
    main()
