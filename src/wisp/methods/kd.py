"""KD: with labels, a student learns them and what its teacher takes each image for.

Source: Hinton, Vinyals and Dean 2015, section 2; weights, temperature and CIFAR training of RepDistiller (Tian et al.
2020, released code): 0.1 times the cross-entropy and 0.9 times the divergence of the softened outputs, with the
temperature squared in front of it. Its steps of the learning rate are a cosine here, as in the supervised row. The
divergence stands for the cross-entropy that the paper prints: the gradient is the same, and 0 is agreement.

Cost: supervised, and one pass of the teacher unless it is cached.
Use: labels, and a teacher that knows the classes or can be probed for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from wisp.data.loader import Batch
from wisp.losses.global_batch import average
from wisp.losses.logits import knowledge_distillation
from wisp.methods.method import Method, Settings, Surroundings
from wisp.methods.parts.ranges import not_negative, positive
from wisp.methods.parts.taught import Tutored, frozen_of, seen
from wisp.methods.supervised import SETTINGS as SUPERVISED
from wisp.methods.supervised import classifier_of, cross_entropy


@dataclass(frozen=True, kw_only=True)
class Config(Tutored):
    """Settings of knowledge distillation with labels."""

    temperature: float = 4.0
    """Of both; RepDistiller."""
    label_weight: float = 0.1
    """Of the cross-entropy with the labels; RepDistiller."""
    distill_weight: float = 0.9
    """Of the divergence from the teacher; RepDistiller."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        super().__post_init__()
        positive(temperature=self.temperature, distill_weight=self.distill_weight)
        not_negative(label_weight=self.label_weight)


SETTINGS = {
    "small": Settings(
        plan="pad_crop",
        epochs=240,
        batch_size=64,
        optimizer="sgd",
        lr=0.05,
        weight_decay=5e-4,
        warmup_epochs=0,
        lr_scale="linear",
        source="RepDistiller (Tian et al. 2020), CIFAR scripts; linear scaling from Goyal et al. 2017",
    ),
    "large": SUPERVISED["large"],
}


@final
class KD(Method):
    """An encoder and a linear classifier, and a frozen teacher with one."""

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
        """All views [B,3,H,W] and labels [B] -> cross-entropy, and the divergence from the teacher; means over both."""
        assert batch.labels is not None
        c, labels = self.config, batch.labels
        theirs = [self.teacher.judges(features) for features in seen(self.teacher, batch)]
        ours = [self.classifier(self.encoder(view)) for view in batch.views]
        learnt = torch.stack([cross_entropy(logits, labels) for logits in ours]).mean()
        apart = [knowledge_distillation(s, t, c.temperature) for s, t in zip(ours, theirs, strict=True)]
        return {
            "cross_entropy": c.label_weight * average(learnt),
            "distill": c.distill_weight * average(torch.stack(apart).mean()),
        }

    def encoders(self) -> dict[str, nn.Module]:
        """The student without its classifier."""
        return {"1x": self.encoder}

    def classifiers(self) -> dict[str, nn.Linear]:
        """The student's classifier."""
        return {"1x": self.classifier}
