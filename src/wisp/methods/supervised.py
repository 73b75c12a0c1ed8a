"""Supervised: the reference row, the same encoder trained with labels by cross-entropy.

Source: the usual recipe of CIFAR ResNets (He et al. 2016: SGD, momentum 0.9, weight decay 1e-4, learning rate 0.1,
crop and flip), with a cosine in the place of steps; 'supervised' rows of SACL-XD are quoted from elsewhere.

Cost: one pass with one view.
Use: a reference row; it needs labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wisp.data.loader import Batch
from wisp.losses.global_batch import gather
from wisp.losses.precision import full_precision
from wisp.methods.method import Method, Settings, Surroundings
from wisp.methods.parts.ranges import fractions

cross_entropy = full_precision(F.cross_entropy)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of supervised training."""

    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes; He et al. 2016 use none."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        fractions(label_smoothing=self.label_smoothing)


SETTINGS = {
    size: Settings(
        plan="pad_crop" if size == "small" else "supervised",
        epochs=epochs,
        batch_size=128 if size == "small" else 256,
        optimizer="sgd",
        lr=0.1,
        weight_decay=1e-4,
        warmup_epochs=5,
        lr_scale="linear",
        source="He et al. 2016, sections 4.1 and 4.2; linear scaling from Goyal et al. 2017",
    )
    for size, epochs in (("small", 200), ("large", 100))
}


def classifier_of(surroundings: Surroundings) -> nn.Linear:
    """A fresh linear layer on an encoder's features, [B,D] -> [B,C], as every method with labels trains one."""
    assert surroundings.classes is not None, "a session refuses a method that needs labels without them"
    return nn.Linear(surroundings.features, surroundings.classes)


@final
class Supervised(Method):
    """An encoder and a linear classifier."""

    needs_labels: ClassVar[bool] = True
    view_count: ClassVar[tuple[int, int | None]] = (1, None)

    def __init__(self, config: Config, encoder: nn.Module, surroundings: Surroundings) -> None:
        super().__init__()
        self.views = surroundings.plan
        self.config = config
        self.encoder = encoder
        self.classifier = classifier_of(surroundings)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """All views [B,3,H,W] and labels [B] -> mean cross-entropy over the global batch."""
        assert batch.labels is not None
        labels = gather(batch.labels)
        logits = [gather(self.classifier(self.encoder(view))) for view in batch.views]
        losses = [cross_entropy(each, labels, label_smoothing=self.config.label_smoothing) for each in logits]
        return {"cross_entropy": torch.stack(losses).mean()}

    def encoders(self) -> dict[str, nn.Module]:
        """The encoder without its classifier."""
        return {"1x": self.encoder}

    def classifiers(self) -> dict[str, nn.Linear]:
        """The classifier of the encoder."""
        return {"1x": self.classifier}
