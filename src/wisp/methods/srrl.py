"""SRRL: with labels, the student's features are to mean to the teacher's classifier what the teacher's own do.

Source: Yang et al. 2021 (Knowledge Distillation via Softmax Regression Representation Learning), as Farhat and Chen
2023 run it (released code): cross-entropy, and two mean squared differences of weight 1 each, one of a connector's
features and the teacher's, one of the logits that the teacher's frozen classifier gives to either. There is no
divergence of softened outputs. The connector is their perceptron, half-way wide, with a ReLU at its end as well, since
encoders here give features and no maps; in the authors' own code it is a 1x1 convolution with BatchNorm and ReLU on the
last map, whose average is compared. Features of a teacher that may be negative, a transformer's say, are met half-way
by the ReLU. For small images the training is Farhat and Chen's as well, for large ones the authors' own, with a cosine
in the place of steps.

Cost: supervised, one pass of the teacher unless it is cached, and a connector of two small layers.
Use: labels, and a teacher that knows the classes or can be probed for them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wisp.data.loader import Batch
from wisp.encoders.heads import mlp
from wisp.encoders.teacher import Teacher
from wisp.losses.global_batch import average
from wisp.losses.precision import full_precision
from wisp.methods.method import Method, Settings, Surroundings
from wisp.methods.parts.ranges import positive
from wisp.methods.parts.taught import Tutored, frozen_of, seen
from wisp.methods.supervised import classifier_of, cross_entropy

squared = full_precision(F.mse_loss)


@dataclass(frozen=True, kw_only=True)
class Config(Tutored):
    """Settings of softmax regression representation learning."""

    feature_weight: float = 1.0
    """Of the squared difference of the features; Farhat and Chen 2023 (code), and Yang et al. 2021 (code)."""
    logit_weight: float = 1.0
    """Of that of the logits by the teacher's classifier; both codes again."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        super().__post_init__()
        positive(feature_weight=self.feature_weight, logit_weight=self.logit_weight)


DAPT = Settings(
    plan="supervised",
    epochs=250,
    batch_size=64,
    optimizer="adamw",
    lr=1e-3,
    weight_decay=0.01,
    warmup_epochs=0,
    source="Farhat and Chen 2023, Appendix A.5 (a constant learning rate); batch of its code; crops as supervised",
)
"""Of every distillation there; also of `au`."""
SETTINGS = {
    "small": replace(DAPT, plan="pad_crop", source=DAPT.source.replace("crops as supervised", "views of kd")),
    "large": Settings(
        plan="supervised",
        epochs=100,
        batch_size=512,
        optimizer="sgd",
        lr=0.2,
        weight_decay=1e-4,
        warmup_epochs=0,
        lr_scale="linear",
        source="Yang et al. 2021, released code for ImageNet; linear scaling from Goyal et al. 2017",
    ),
}


def connector(features: int, wanted: int) -> nn.Sequential:
    """From the student's features to the teacher's, [B,D] -> [B,D'], a ReLU after both layers; Farhat and Chen 2023."""
    return nn.Sequential(*mlp([features, (features + wanted) // 2, wanted], norm=False), nn.ReLU())


def differences(ours: Tensor, theirs: Tensor, teacher: Teacher) -> tuple[Tensor, Tensor]:
    """Mean squared differences of the features, and of what the teacher's classifier makes of them.

    Args:
        ours: what the connector makes of the student's features, [B,D'].
        theirs: the teacher's own, [B,D'].
        teacher: with a classifier.
    """
    # Not `judges`, which makes no graph: frozen as it is, the gradient goes through it to the connector.
    assert teacher.classifier is not None, "a session gives one to the teacher of a task"
    return squared(ours, theirs), squared(teacher.classifier(ours), teacher.judges(theirs))


@final
class SRRL(Method):
    """An encoder, a linear classifier and a connector; and a frozen teacher with a classifier."""

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
        self.connector = connector(surroundings.features, self.teacher.features)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """All views [B,3,H,W] and labels [B] -> cross-entropy and both differences from the teacher; means over all."""
        assert batch.labels is not None
        learnt, far, unlike = [], [], []
        for view, theirs in zip(batch.views, seen(self.teacher, batch), strict=True):
            features = self.encoder(view)
            learnt.append(cross_entropy(self.classifier(features), batch.labels))
            apart = differences(self.connector(features), theirs, self.teacher)
            far.append(apart[0])
            unlike.append(apart[1])
        return {
            "cross_entropy": average(torch.stack(learnt).mean()),
            "features": self.config.feature_weight * average(torch.stack(far).mean()),
            "logits": self.config.logit_weight * average(torch.stack(unlike).mean()),
        }

    def encoders(self) -> dict[str, nn.Module]:
        """The student without its classifier."""
        return {"1x": self.encoder}

    def classifiers(self) -> dict[str, nn.Linear]:
        """The student's own classifier."""
        return {"1x": self.classifier}
