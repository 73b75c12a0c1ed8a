"""OSS: in one training a larger network clusters the images, and the student follows its assignments as they change.

Source: A reading: Choi et al. 2021, of which nothing but the citation could be read. Its title says that the student
learns on the fly, from a teacher that is in training itself. The rest is ours. The teacher learns by SwAV. Of every
view it gives the student its softmax over its prototypes, which the student's embedding is compared with too; both
have SwAV's temperature. The teacher's entropy is subtracted from the cross-entropy: the gradient is the same, and 0 is
agreement. Nothing that the student does reaches the teacher or the prototypes, and the student has no other loss. What
SACL-XD cites, 800 and 200 epochs, is no one training; ours has SwAV's 200.

Cost: SwAV's for the teacher, and one pass with a gradient of the student for every view.
Use: no trained teacher is at hand, and there is time to train a larger network along; multi-crop.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from wisp.data.loader import Batch
from wisp.encoders.heads import mlp
from wisp.losses.contrastive import cosines, unit
from wisp.losses.global_batch import average
from wisp.losses.relation import similarity_distillation
from wisp.methods import swav
from wisp.methods.method import Method, Surroundings
from wisp.methods.parts.bases import lend
from wisp.methods.parts.taught import TaughtOnline, learner_of, teacher_of
from wisp.methods.swav import SwAV


@dataclass(frozen=True, kw_only=True)
class Config(TaughtOnline):
    """Settings of OSS."""

    prototypes: int = 3000
    """P; SwAV."""
    temperature: float = 0.1
    """Divides the scores of the teacher and of the student; SwAV."""
    epsilon: float = 0.05
    """Smoothness of the teacher's own assignments; SwAV."""
    queue: int | None = None
    """The teacher's embeddings of earlier batches; up to SwAV's 3840 and half of the images."""
    queue_start: float = 0.05
    """Fraction of the training before the queue is used; as in wisp's SwAV."""
    frozen: float = 0.002
    """Fraction of the training with fixed prototypes; as in wisp's SwAV."""
    hidden: int = 2048
    """Hidden width of the heads; SwAV."""
    out: int = 128
    """E, width of the embeddings; SwAV."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        super().__post_init__()
        self.clustering()

    def clustering(self) -> swav.Config:
        """The settings of the teacher's own training."""
        names = ("prototypes", "temperature", "epsilon", "queue", "queue_start", "frozen", "hidden", "out")
        return swav.Config(**{name: getattr(self, name) for name in names})


SETTINGS = {
    size: replace(settings, epochs=200, source=f"ours: SwAV's training ({settings.source}), 200 epochs")
    for size, settings in swav.SETTINGS.items()
}


@final
class OSS(Method):
    """A teacher with its SwAV, and a student in the space of the teacher's prototypes."""

    taught: ClassVar[Literal["no", "frozen", "online"]] = "online"
    view_count: ClassVar[tuple[int, int | None]] = (2, None)

    def __init__(self, config: Config, encoder: nn.Module, surroundings: Surroundings) -> None:
        super().__init__()
        self.views = surroundings.plan
        self.config = config
        self.student = nn.Sequential(encoder, mlp([surroundings.features, config.hidden, config.out], last="biased"))
        beside = replace(surroundings, features=teacher_of(surroundings).features)
        self.clusters = SwAV(config.clustering(), learner_of(surroundings), beside)
        self.teacher = self.clusters.network
        lend(self.clusters, self.teacher)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """V views [B,3,H,W] -> the teacher's loss, and the mean divergence of the student's assignments from its."""
        t = self.config.temperature
        theirs = self.clusters.scores(self.clusters.outputs(batch.views), progress)
        prototypes = self.clusters.prototypes.detach()
        own = [cosines(unit(self.student(view)), prototypes) for view in batch.views]
        apart = [similarity_distillation(*pair, t, t) for pair in zip(own, theirs, strict=True)]
        return {"teacher": self.clusters.loss(theirs, progress), "distill": average(torch.stack(apart).mean())}

    def phases(self) -> tuple[float, ...]:
        """Those of SwAV."""
        return self.clusters.phases()

    def after_step(self, progress: float) -> None:
        """The prototypes get length 1 again, the teacher's embeddings join their queues."""
        self.clusters.after_step(progress)

    def chosen(self) -> dict[str, float]:
        """Size of each queue."""
        return self.clusters.chosen()

    def warnings(self) -> list[str]:
        """More prototypes than the images suit."""
        return self.clusters.warnings()

    def encoders(self) -> dict[str, nn.Module]:
        """The student. A card describes the run's own architecture, which the teacher does not have."""
        return {"1x": self.student[0]}

    def head(self) -> nn.Module:
        """The student's projection head, without the prototypes."""
        return self.student[1]
