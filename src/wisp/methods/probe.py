"""Probe: a trained encoder stays as it is, and a linear classifier on its features learns the labels.

Source: Farhat and Chen 2023, sections 3 and 4 and Appendix A.5: the rows S-LP (a pre-trained student, probed for the
task) and T-LP (its teacher), with AdamW as everywhere there; no schedule there, a cosine here. Their code runs the
encoder in training mode, and keeps the features of the first epoch for all others; the rows of its tables are low for
that. Here the encoder is in evaluation mode, as a user will run it, and nothing of it changes, BatchNorm's statistics
included. Images are centred and resized as in A.5, but not flipped; an encoder that does not learn cannot get used to
crops, which did it harm in a trial on CIFAR-10 of which there is no receipt. Between features and
classifier stands a BatchNorm without scale and shift, as in He et al. 2022 (masked autoencoders), A.1, so that one
learning rate serves features of any size; the exported classifier has it folded in. The encoder is the teacher: its
architecture is --model's, and its normalisation and, unless one is given, its resolution are the run's.

Cost: one pass of the encoder, without a gradient; its own training, the price of the road, stands beside it.
Use: labels, and an encoder that was trained before, by wisp or by others: its classifier for a task, cheaply.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self, final

import torch
from torch import Tensor, nn

from wisp.data.loader import Batch
from wisp.losses.global_batch import average
from wisp.methods.au import SETTINGS as AU
from wisp.methods.method import Method, Surroundings
from wisp.methods.parts.taught import TaughtOnline, teacher_of
from wisp.methods.supervised import classifier_of, cross_entropy


@dataclass(frozen=True, kw_only=True)
class Config(TaughtOnline):
    """Settings of a probe: whose weights the encoder takes."""


_SOURCE = "Farhat and Chen 2023, Appendix A.5 (a constant learning rate); batch of its code; no flips"
SETTINGS = {size: replace(settings, plan="plain", source=_SOURCE) for size, settings in AU.items()}
_MOMENTUM = 0.1
"""Of the running statistics of the features; torch's."""


@final
class Probe(Method):
    """A frozen encoder with a teacher's weights, and a linear classifier."""

    needs_labels: ClassVar[bool] = True
    taught: ClassVar[Literal["no", "frozen", "online", "adopted"]] = "adopted"
    view_count: ClassVar[tuple[int, int | None]] = (1, None)

    def __init__(self, config: Config, encoder: nn.Module, surroundings: Surroundings) -> None:
        super().__init__()
        teacher = teacher_of(surroundings)
        self.views = surroundings.plan
        self.teacher = teacher.absent()
        encoder.load_state_dict(teacher.encoder.state_dict())
        self.encoder = encoder.requires_grad_(False).eval()
        self.norm = nn.BatchNorm1d(surroundings.features, eps=1e-6, momentum=_MOMENTUM, affine=False)
        assert self.norm.running_var is not None
        self.norm.running_var.zero_()  # as the mean: `classifiers` divides by the share that batches have in either
        self.classifier = classifier_of(surroundings)

    def train(self, mode: bool = True) -> Self:
        """The encoder stays in evaluation mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """All views [B,3,H,W] and labels [B] -> mean cross-entropy over the global batch."""
        assert batch.labels is not None
        with torch.no_grad():
            features = [self.encoder(view) for view in batch.views]
        losses = [cross_entropy(self.classifier(self.norm(each)), batch.labels) for each in features]
        return {"cross_entropy": average(torch.stack(losses).mean())}

    def encoders(self) -> dict[str, nn.Module]:
        """The encoder, as it came."""
        return {"1x": self.encoder}

    @torch.no_grad()
    def classifiers(self) -> dict[str, nn.Linear]:
        """A copy of the classifier that takes the features as they are.

        The features do not change, and may be small beside 1: however few batches there were, the statistics are
        theirs alone, with nothing of what they began with.
        """
        mean, variance, batches = self.norm.running_mean, self.norm.running_var, self.norm.num_batches_tracked
        assert mean is not None
        assert variance is not None
        assert batches is not None
        share = 1 - (1 - _MOMENTUM) ** batches.clamp(min=1)
        mean, variance = mean / share, torch.where(batches > 0, variance / share, 1.0)
        folded = copy.deepcopy(self.classifier)
        folded.weight.mul_((variance + self.norm.eps).rsqrt())
        folded.bias.sub_(folded.weight @ mean)
        return {"1x": folded}
