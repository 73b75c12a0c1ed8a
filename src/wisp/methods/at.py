"""AT: with labels, the student is to look where its teacher looks, stage by stage.

Source: Zagoruyko and Komodakis 2017 (Paying More Attention to Attention), Eq. 2, activation-based; weight and training
of RepDistiller (Tian et al. 2020, released code): cross-entropy, and 1000 times the mean squared difference of the
attention maps, added up over the stages. Maps of unlike sides are averaged to the smaller one. The stages are the last
maps of every resolution, paired from the last; a transformer's are its blocks after every quarter of the depth. DisCo's
attention, without labels, is --method.extra at of other methods.

Cost: supervised, and one pass of the teacher; the maps of all stages are kept.
Use: labels, and a teacher that is built of stages as the student is; it needs no classifier.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from wisp.data.loader import Batch
from wisp.losses.global_batch import average
from wisp.methods.kd import SETTINGS as SETTINGS
from wisp.methods.method import Method, Surroundings
from wisp.methods.parts.attending import WEIGHT, Attending
from wisp.methods.parts.ranges import positive
from wisp.methods.parts.taught import Frozen, frozen_of
from wisp.methods.supervised import classifier_of, cross_entropy


@dataclass(frozen=True, kw_only=True)
class Config(Frozen):
    """Settings of attention transfer with labels."""

    attention_weight: float = WEIGHT
    """Of the attention maps' difference; RepDistiller."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        super().__post_init__()
        positive(attention_weight=self.attention_weight)


@final
class AT(Method):
    """An encoder and a linear classifier, and a frozen teacher."""

    needs_labels: ClassVar[bool] = True
    taught: ClassVar[Literal["no", "frozen", "online"]] = "frozen"
    view_count: ClassVar[tuple[int, int | None]] = (1, None)

    def __init__(self, config: Config, encoder: nn.Module, surroundings: Surroundings) -> None:
        super().__init__()
        self.views = surroundings.plan
        self.config = config
        self.teacher = frozen_of(surroundings)
        self.encoder = encoder
        self.classifier = classifier_of(surroundings)
        self.attending = Attending(encoder, self.teacher, image_size=surroundings.image_size, instead="the method rkd")

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """All views [B,3,H,W] and labels [B] -> cross-entropy, and the attention maps' difference; means over both."""
        assert batch.labels is not None
        labels = batch.labels
        with self.attending.watching(self.encoder, self.teacher) as maps:
            self.teacher.looks(batch.views)
            logits = [self.classifier(self.encoder(view)) for view in batch.views]
        learnt = torch.stack([cross_entropy(each, labels) for each in logits]).mean()
        gap = torch.stack(self.attending.gaps(maps, len(labels))).mean()
        return {"cross_entropy": average(learnt), "attention": self.config.attention_weight * average(gap)}

    def encoders(self) -> dict[str, nn.Module]:
        """The student without its classifier."""
        return {"1x": self.encoder}

    def classifiers(self) -> dict[str, nn.Linear]:
        """The student's classifier."""
        return {"1x": self.classifier}
