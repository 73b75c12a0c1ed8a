"""SEED's loss in blocks of the queue's similarities beside the same loss with all of them in memory, in turns.

Value and gradient for a batch of 256 and the queue that CIFAR-10 gets. Embeddings are random: spread ones have cosines
near 0, where a teacher's temperature of 0.01 makes subnormal numbers of most shares, close ones near 0.5. In bf16 the
blocks' products round their factors; the loss with all similarities is in float32 whatever the precision.

    python -m benchmarks.seed_loss [--repeats 9] [--threads 2] > results/benchmarks/seed_loss.jsonl

One JSON object a line: embeddings, blocks_over_whole, precision.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks import step
from benchmarks.clock import confine, line, ratio, seconds, surroundings
from wisp.allocator import keep_freed_memory
from wisp.losses.contrastive import against_queue, unit
from wisp.losses.relation import queue_distillation, similarity_distillation
from wisp.methods import moco_v2, seed
from wisp.methods.parts.queue import queue_size

BATCH, WIDTH = 256, 128
EMBEDDINGS = {"spread": 0.0, "close": 1.0}
"""Mean of every number, beside a deviation of 1."""

Given = tuple[Tensor, Tensor, Tensor, Tensor]


def rows(mean: float, queue: int) -> Given:
    """Unit rows of the student and its teacher [B,E], a full queue [K,E], and which of its slots are filled [K]."""
    generator = torch.Generator().manual_seed(0)
    made = [unit(torch.randn(n, WIDTH, generator=generator) + mean) for n in (BATCH, BATCH, queue)]
    return made[0].requires_grad_(), made[1], made[2], torch.ones(queue, dtype=torch.bool)


def whole(student: Tensor, teacher: Tensor, queue: Tensor, filled: Tensor, ours: float, theirs: float) -> Tensor:
    """As `queue_distillation`, from two matrices [B,1+K]."""
    placed, wanted = (against_queue(each, teacher, queue, filled).cosines for each in (student, teacher))
    return similarity_distillation(placed, wanted, ours, theirs)


def slope(loss: Callable[..., Tensor], given: Given, precision: str) -> Tensor:
    """Gradient of the student's rows at the temperatures of SEED."""
    config = seed.Config()
    with step.forward(precision):
        found = loss(*given, config.temperature, config.teacher_temperature)
    return torch.autograd.grad(found, given[0])[0]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=step.IMAGES, help="they set the length of the queue")
    options = parser.parse_args(arguments)
    confine(options.threads)
    keep_freed_memory()
    queue = queue_size(None, moco_v2.PAPER_QUEUE, images=options.images, step=BATCH)
    for precision in ("fp32", "bf16"):
        for name, mean in EMBEDDINGS.items():
            given = rows(mean, queue)
            losses = {"blocks": queue_distillation, "whole": whole}
            contenders = {each: partial(slope, loss, given, precision) for each, loss in losses.items()}
            times = step.Turns(options.repeats, options.warmup, precision).taken(contenders)
            measured: dict[str, Any] = {
                "embeddings": name,
                "blocks_over_whole": ratio(times, "blocks", "whole"),
                "batch": BATCH,
                "queue": queue,
                "seconds": seconds(times),
                "precision": precision,
            }
            print(line(measured, surroundings("seed_loss", repeats=options.repeats)), flush=True)


if __name__ == "__main__":
    main()
