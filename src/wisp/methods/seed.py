"""SEED: a student places each image among a queue of other images as its teacher does.

Source: Fang et al. 2021, Eq. 3-6, and the released builder.py. Both see the same view; the candidates are the
teacher's embedding of that very view and a queue of its earlier ones, of which the first is no positive but a candidate
with similarity 1. The paper and its citations have a teacher temperature of 0.01; the released code has 1e-4, where
the target is almost always that first candidate alone. The teacher's entropy is subtracted from the printed
cross-entropy: the gradient is the same, and 0 is agreement. Local crops have a queue of their own (released option):
similarities of small and large crops do not mix, their losses are added, and the first of an image's local crops
stands for it in their queue. Left out: a warm-up from 0.03, which is none where it ends at 0.03. SEED trains on no
small images; there the values are those of its ImageNet training, with one view of MoCo v2's for CIFAR.

Cost: one pass with a gradient and one of the teacher, and a queue in memory.
Use: a good teacher is at hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from wisp.data.loader import Batch
from wisp.encoders.heads import mlp
from wisp.losses.contrastive import unit
from wisp.losses.global_batch import average, gather
from wisp.losses.relation import queue_distillation
from wisp.methods import moco_v2
from wisp.methods.method import Method, Surroundings
from wisp.methods.moco_v2 import trained_as_moco
from wisp.methods.parts.extra import Extra
from wisp.methods.parts.queue import Queue, overlong, queue_size
from wisp.methods.parts.ranges import positive
from wisp.methods.parts.taught import Taught, frozen_of, width_for


@dataclass(frozen=True, kw_only=True)
class Config(Taught):
    """Settings of SEED."""

    temperature: float = 0.2
    """Of the student; the paper, section 4."""
    teacher_temperature: float = 0.01
    """Of the teacher; the paper (1e-4 in the released code)."""
    queue: int | None = None
    """K; a multiple of the batch, up to the paper's 65536 and half of the images, unless given."""
    hidden: int | None = None
    """Hidden width of the student's head; its features' width unless given, as in the released code."""
    out: int | None = None
    """E, width of the embedding; the teacher's, and no other."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        super().__post_init__()
        positive(temperature=self.temperature, teacher_temperature=self.teacher_temperature)


SETTINGS = trained_as_moco("Fang et al. 2021, section 4.1, and the released main.py", small="seed_cifar", large="seed")


@final
class SEED(Method):
    """A student, its teacher, and a queue of the teacher's embeddings for each size of views."""

    taught: ClassVar[Literal["no", "frozen", "online"]] = "frozen"
    view_count: ClassVar[tuple[int, int | None]] = (1, None)

    def __init__(self, config: Config, encoder: nn.Module, surroundings: Surroundings) -> None:
        super().__init__()
        self.views = surroundings.plan
        self.config, self.images = config, surroundings.images
        self.teacher = frozen_of(surroundings)
        hidden = surroundings.features if config.hidden is None else config.hidden
        out = width_for(config.out, self.teacher)
        self.network = nn.Sequential(encoder, mlp([surroundings.features, hidden, out], norm=False))
        self.extra = Extra(config, encoder, self.teacher, image_size=surroundings.image_size, out=out)
        sides = self.views.pixels(surroundings.image_size)
        self.kinds = [[v for v, each in enumerate(sides) if each == side] for side in dict.fromkeys(sides)]
        self.step = surroundings.batch_size
        size = queue_size(config.queue, moco_v2.PAPER_QUEUE, images=self.images, step=self.step)
        self.queues = nn.ModuleList(Queue(size, out) for _ in self.kinds)
        self.fresh: list[Tensor] = []

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """V views [B,3,H,W] -> divergence of the student's places from the teacher's, and what is extra.

        A mean over the views of one size, added up over the sizes.
        """
        c = self.config
        with self.extra.watching(self.network[0], self.teacher) as maps:
            theirs = self.teacher(batch.views)
            ours = [self.network(view) for view in batch.views]
        keys = [unit(each) for each in theirs]
        self.fresh = [gather(keys[kind[0]]) for kind in self.kinds]
        losses = []
        for kind, queue in zip(self.kinds, self.queues, strict=True):
            assert isinstance(queue, Queue)
            memory, temperatures = (queue.keys, queue.filled), (c.temperature, c.teacher_temperature)
            apart = [queue_distillation(unit(ours[v]), keys[v], *memory, *temperatures) for v in kind]
            losses.append(torch.stack(apart).mean())
        return {"distill": average(torch.stack(losses).sum()), **self.extra.terms(ours, theirs, maps)}

    def after_step(self, progress: float) -> None:
        """The teacher's embeddings of this step join the queues."""
        for queue, keys in zip(self.queues, self.fresh, strict=False):
            assert isinstance(queue, Queue)
            queue.put(keys)
        self.fresh = []

    def chosen(self) -> dict[str, float]:
        """K, of every queue."""
        return {"queue": self._size()}

    def warnings(self) -> list[str]:
        """Queues that hold most of the data."""
        return overlong(self._size(), images=self.images, step=self.step)

    def _size(self) -> int:
        first = self.queues[0]
        assert isinstance(first, Queue)
        return len(first.keys)

    def encoders(self) -> dict[str, nn.Module]:
        """The student."""
        return {"1x": self.network[0]}

    def head(self) -> nn.Module:
        """Into the teacher's space."""
        return self.network[1]
