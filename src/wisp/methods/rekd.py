"""ReKD: a larger network learns beside the student and tells it which other images belong to a query.

Source: A reading: Zheng et al. 2022, of which the abstract, the introduction and what others tell could be read; there
is no public code. Theirs is that a heterogeneous teacher, trained at the same time, mines relations between images, and
that these stand where labels stand in a supervised contrast. The rest is ours. Teacher and student each are a MoCo v2
with a slow copy and a queue, and both queues hold the same images at the same places. The k images in it that the
teacher finds most similar to its query are positives of the student's query, beside its own key; the mean over the
positives stands before the logarithm (Khosla et al. 2020, Eq. 2). The paper is said to mine its relations in a bank of
prototypes; here it is the queue. Nothing that the student does reaches the teacher.

Cost: MoCo v2's for the student, and once more for the teacher.
Use: no trained teacher is at hand, and there is time to train a larger network along.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, final

import torch.nn.functional as F
from torch import Tensor, nn

from wisp.data.loader import Batch
from wisp.errors import WispError
from wisp.losses.contrastive import Contrast, info_nce_of_many
from wisp.losses.global_batch import average
from wisp.methods import moco_v2
from wisp.methods.method import Method, Surroundings
from wisp.methods.moco_v2 import MocoV2, trained_as_moco
from wisp.methods.parts.bases import lend
from wisp.methods.parts.ranges import positive
from wisp.methods.parts.taught import TaughtOnline, learner_of, teacher_of


@dataclass(frozen=True, kw_only=True)
class Config(TaughtOnline):
    """Settings of ReKD; `temperature` and those below it are those of both contrasts."""

    neighbours: int = 5
    """k, images that the teacher adds to the positives; ours: as many as a bag of BINGO holds."""
    relation: float = 1.0
    """Weight of the contrast with the teacher's positives, beside 1 for the student's own; ours."""
    temperature: float = 0.2
    """Divides the cosines; MoCo v2."""
    momentum: float = 0.99
    """Of the slow copies; MoCo's CIFAR notebook (0.999 on ImageNet)."""
    queue: int | None = None
    """K; a multiple of the batch, up to MoCo v2's 65536 and half of the images, unless given."""
    splits: int = 8
    """Groups of the global batch that BatchNorm normalises by themselves; MoCo v2's 8 devices."""
    hidden: int = 2048
    """Hidden width of the heads; MoCo v2."""
    out: int = 128
    """E, width of the embeddings; MoCo v2."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        super().__post_init__()
        positive(neighbours=self.neighbours)
        if self.relation < 0:
            raise WispError(f"relation is {self.relation:g}; it must be a number of 0 or more")
        self.contrast()

    def contrast(self) -> moco_v2.Config:
        """The settings of both contrasts."""
        names = ("temperature", "momentum", "queue", "splits", "hidden", "out")
        return moco_v2.Config(**{name: getattr(self, name) for name in names})


SETTINGS = trained_as_moco("ours: MoCo v2's training (Chen et al. 2020b); 200 epochs are those of Zheng et al. 2022")


@final
class ReKD(Method):
    """A student and a teacher, each with its own MoCo v2, and the relations that the teacher finds."""

    taught: ClassVar[Literal["no", "frozen", "online"]] = "online"
    synchronised = False

    def __init__(self, config: Config, encoder: nn.Module, surroundings: Surroundings) -> None:
        super().__init__()
        self.views = surroundings.plan
        self.config = config
        beside = replace(surroundings, features=teacher_of(surroundings).features)
        self.own = MocoV2(config.contrast(), encoder, surroundings)
        self.theirs = MocoV2(config.contrast(), learner_of(surroundings), beside)
        self.student, self.teacher = self.own.network, self.theirs.network
        lend(self.own, self.student)
        lend(self.theirs, self.teacher)
        if config.neighbours > len(self.own.queue.keys):
            raise WispError(
                f"{config.neighbours} neighbours cannot be found in a queue of {len(self.own.queue.keys)} images; "
                "use fewer --method.neighbours, or a larger --method.queue"
            )

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Two views [B,3,H,W] -> each network's own contrast, and the student's with the teacher's positives."""
        c = self.config
        theirs = self._contrast(self.theirs, batch, progress)
        own = self._contrast(self.own, batch, progress)
        related = info_nce_of_many(own.cosines, self._positives(theirs), c.temperature)
        return {
            "teacher": self.theirs.loss([theirs]),
            "instance": self.own.loss([own]),
            "relation": c.relation * average(related),
        }

    @staticmethod
    def _contrast(base: MocoV2, batch: Batch, progress: float) -> Contrast:
        """The first view's queries among the keys: cosines [B,1+K]."""
        keys = base.targets(batch.views, progress)
        return base.contrasts(base.embeddings((base.network, base.network), batch.views), keys)[0]

    def _positives(self, theirs: Contrast) -> Tensor:
        """Columns [B,1+k]: an image's own key, and those of the images that the teacher finds most similar."""
        found = theirs.cosines[:, 1:].detach().topk(self.config.neighbours, dim=1).indices
        return F.pad(found + 1, (1, 0))

    def after_step(self, progress: float) -> None:
        """Both slow copies follow, both queues take the keys of the same images."""
        self.theirs.after_step(progress)
        self.own.after_step(progress)

    def chosen(self) -> dict[str, float]:
        """K."""
        return self.own.chosen()

    def warnings(self) -> list[str]:
        """A queue that holds most of the data."""
        return self.own.warnings()

    def encoders(self) -> dict[str, nn.Module]:
        """The student. A card describes the run's own architecture, which the teacher does not have."""
        return {"1x": self.student[0]}

    def head(self) -> nn.Module:
        """The student's projection head."""
        return self.student[1]
