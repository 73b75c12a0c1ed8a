"""SwAV: from one view, predict the cluster assignment of another.

Source: Caron et al. 2020, Eq. 1-5 and Algorithm 1, and the released main_swav.py. The first two views are assigned, by
Sinkhorn-Knopp over the global batch and a queue for each of the two; every other view predicts the assignment. The
prototypes have length 1 and are fixed at first. What the code gives in epochs is a fraction of its training here.
CIFAR values: solo-learn.

Cost: as Barlow Twins with two views, and scores with the prototypes; each local view adds its own pass.
Use: multi-crop, small batches with a queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wisp.data.loader import Batch
from wisp.encoders.heads import mlp
from wisp.losses.clustering import sinkhorn, soft_cross_entropy
from wisp.losses.contrastive import cosines, unit
from wisp.losses.global_batch import average, gather, rank
from wisp.methods.method import Method, Settings, Surroundings
from wisp.methods.parts.queue import Queue, queue_size
from wisp.methods.parts.ranges import crowded, fractions, positive
from wisp.methods.parts.solo_learn import cifar

ASSIGNED = 2


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of SwAV."""

    prototypes: int = 3000
    """P; the paper and solo-learn."""
    temperature: float = 0.1
    """Divides the scores of a prediction; the paper."""
    epsilon: float = 0.05
    """Smoothness of an assignment; the paper."""
    iterations: int = 3
    """Of Sinkhorn-Knopp; the paper."""
    queue: int | None = None
    """Embeddings of earlier batches that are assigned too; up to the paper's 3840 and half of the images."""
    queue_start: float = 0.05
    """Fraction of the training before the queue is used; solo-learn, epoch 50 of 1000 (15 of 200 in the code)."""
    frozen: float = 0.002
    """Fraction of the training with fixed prototypes; solo-learn, 2 epochs of 1000."""
    hidden: int = 2048
    """Hidden width of the projector; the paper."""
    out: int = 128
    """E, width of the embedding; the paper."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        positive(
            prototypes=self.prototypes,
            temperature=self.temperature,
            epsilon=self.epsilon,
            iterations=self.iterations,
        )
        fractions(queue_start=self.queue_start, frozen=self.frozen)


PAPER_QUEUE = 3840
SETTINGS = {
    "small": cifar("swav.yaml", plan="simclr_cifar", lr=0.6, weight_decay=1e-6),
    "large": Settings(
        plan="swav",
        epochs=200,
        batch_size=256,
        optimizer="lars",
        lr=0.6,
        weight_decay=1e-6,
        warmup_epochs=0,
        lr_scale="linear",
        source="facebookresearch/swav, 200 epochs at batch 256",
    ),
}


@final
class SwAV(Method):
    """A network, prototypes, and a queue for each of the two views that are assigned."""

    view_count: ClassVar[tuple[int, int | None]] = (2, None)

    def __init__(self, config: Config, encoder: nn.Module, surroundings: Surroundings) -> None:
        super().__init__()
        self.views = surroundings.plan
        self.config, self.images = config, surroundings.images
        self.network = nn.Sequential(encoder, mlp([surroundings.features, config.hidden, config.out], last="biased"))
        self.prototypes = nn.Parameter(F.normalize(torch.randn(config.prototypes, config.out), dim=1))
        size = queue_size(config.queue, PAPER_QUEUE, images=surroundings.images, step=surroundings.batch_size)
        self.queues = nn.ModuleList(Queue(size, config.out) for _ in range(ASSIGNED))
        self.fresh: list[Tensor] = []

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """V views [B,3,H,W], the first two assigned -> mean cross-entropy of the others' predictions."""
        return self.compared(self.outputs(batch.views), batch.views, progress)

    def outputs(self, views: tuple[Tensor, ...]) -> list[Tensor]:
        """What the network makes of every view, not normalised: [B,3,H,W] -> [B,E] each."""
        return [self.network(view) for view in views]

    def compared(self, outputs: list[Tensor], views: tuple[Tensor, ...], progress: float) -> dict[str, Tensor]:
        """The term of all views' `outputs`; as in MoCo v2, which needs the `views` for its keys."""
        return {"swap": self.loss(self.scores(outputs, progress), progress)}

    def scores(self, outputs: list[Tensor], progress: float) -> list[Tensor]:
        """Cosines [B,P] of each view's output [B,E] with the prototypes; the first two views' wait for `loss`."""
        prototypes = self.prototypes.detach() if progress < self.config.frozen else self.prototypes
        embeddings = [unit(z) for z in outputs]
        self.fresh = [gather(z.detach()) for z in embeddings[:ASSIGNED]]
        return [cosines(z, prototypes) for z in embeddings]

    def loss(self, scores: Sequence[Tensor], progress: float) -> Tensor:
        """Mean over the global batch and the predictions, of the latest `scores`."""
        losses = []
        for i in range(ASSIGNED):
            target = self._assigned(self.fresh[i], self.queues[i], progress)
            mine = target[rank() * len(scores[i]) :][: len(scores[i])]
            others = [each for v, each in enumerate(scores) if v != i]
            losses += [soft_cross_entropy(each, mine, self.config.temperature) for each in others]
        return average(torch.stack(losses).mean())

    def _assigned(self, embeddings: Tensor, queue: nn.Module, progress: float) -> Tensor:
        """Assignments [N,P] of the global batch's embeddings [N,E], together with those of the queue."""
        c = self.config
        assert isinstance(queue, Queue)
        rows, part = embeddings, None
        if progress >= c.queue_start:
            rows = torch.cat([embeddings, queue.keys])
            part = torch.cat([torch.ones(len(embeddings), dtype=torch.bool, device=rows.device), queue.filled])
        scores = cosines(rows, self.prototypes.detach())
        return sinkhorn(scores, epsilon=c.epsilon, iterations=c.iterations, taking_part=part)[: len(embeddings)]

    def phases(self) -> tuple[float, ...]:
        """Fixed prototypes; free ones; with the queue."""
        return tuple(sorted({0.0, self.config.frozen, self.config.queue_start}))

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """The prototypes get length 1 again, the embeddings of this step join their queues."""
        self.prototypes.copy_(F.normalize(self.prototypes, dim=1))
        for queue, embeddings in zip(self.queues, self.fresh, strict=False):
            assert isinstance(queue, Queue)
            queue.put(embeddings)
        self.fresh = []

    def chosen(self) -> dict[str, float]:
        """Size of each queue."""
        queue = self.queues[0]
        assert isinstance(queue, Queue)
        return {"queue": len(queue.keys)}

    def warnings(self) -> list[str]:
        """More prototypes than the images suit."""
        return crowded(self.config.prototypes, self.images)

    def encoders(self) -> dict[str, nn.Module]:
        """The encoder that was trained."""
        return {"1x": self.network[0]}

    def head(self) -> nn.Module:
        """The projection head, without the prototypes."""
        return self.network[1]
