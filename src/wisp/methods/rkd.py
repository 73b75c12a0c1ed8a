"""RKD: with labels, images are to lie to each other in the student's features as they do in the teacher's.

Source: Park et al. 2019 (Relational Knowledge Distillation), Eq. 5-10; weights and training of RepDistiller (Tian et
al. 2020, released code): cross-entropy, and smooth-L1 between relative distances of all pairs, weight 25, and between
the angles of all triplets, weight 50. Features are the last ones before the classifiers and are not normalised. The
relations are those of the global batch. DisCo's relations, of normalised embeddings with weights 1 and 1 and no
labels, are --method.extra rkd of other methods.

Cost: supervised, and one pass of the teacher unless it is cached; N^3 multiply-adds for each feature of both, where a
weight of 0 for the angles leaves N^2.
Use: labels, and any teacher; it needs no classifier.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from wisp.data.loader import Batch
from wisp.errors import WispError
from wisp.losses.global_batch import average, gather
from wisp.losses.relation import rkd_angle, rkd_distance
from wisp.methods.kd import SETTINGS as SETTINGS
from wisp.methods.method import Method, Surroundings
from wisp.methods.parts.ranges import not_negative
from wisp.methods.parts.taught import Frozen, frozen_of, seen
from wisp.methods.supervised import classifier_of, cross_entropy


@dataclass(frozen=True, kw_only=True)
class Config(Frozen):
    """Settings of relational distillation with labels."""

    distance_weight: float = 25.0
    """Of the distances; RepDistiller."""
    angle_weight: float = 50.0
    """Of the angles; RepDistiller."""
    cached: bool = False
    """Whether the teacher sees each image once, plain, and its features are kept on disk; off as for kd, and no
    paper's."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        super().__post_init__()
        not_negative(distance_weight=self.distance_weight, angle_weight=self.angle_weight)
        if self.distance_weight == self.angle_weight == 0:
            raise WispError(
                "distance_weight and angle_weight are 0, and nothing is distilled; use the method supervised"
            )


@final
class RKD(Method):
    """An encoder and a linear classifier, and a frozen teacher."""

    needs_labels: ClassVar[bool] = True
    taught: ClassVar[Literal["no", "frozen", "online"]] = "frozen"
    view_count: ClassVar[tuple[int, int | None]] = (1, None)

    def __init__(self, config: Config, encoder: nn.Module, surroundings: Surroundings) -> None:
        super().__init__()
        self.views = surroundings.plan
        self.config = config
        self.teacher = frozen_of(surroundings, cached=config.cached)
        self.remembers = self.teacher.features if config.cached else 0
        self.encoder = encoder
        self.classifier = classifier_of(surroundings)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """All views [B,3,H,W] and labels [B] -> cross-entropy, and the relations that have a weight; means over all."""
        assert batch.labels is not None
        c, labels = self.config, batch.labels
        features = [self.encoder(view) for view in batch.views]
        learnt = torch.stack([cross_entropy(self.classifier(each), labels) for each in features]).mean()
        pairs = [(gather(s), gather(t)) for s, t in zip(features, seen(self.teacher, batch), strict=True)]
        terms = {"cross_entropy": average(learnt)}
        for name, gap, weight in (
            ("distance", rkd_distance, c.distance_weight),
            ("angle", rkd_angle, c.angle_weight),
        ):
            if weight > 0:
                terms[name] = weight * torch.stack([gap(s, t) for s, t in pairs]).mean()
        return terms

    def encoders(self) -> dict[str, nn.Module]:
        """The student without its classifier."""
        return {"1x": self.encoder}

    def classifiers(self) -> dict[str, nn.Linear]:
        """The student's classifier."""
        return {"1x": self.classifier}
