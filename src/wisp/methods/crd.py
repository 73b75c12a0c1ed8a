"""CRD: with labels, and a student's embedding of an image tells its teacher's of it from those of other classes.

Source: Tian, Krishnan and Isola 2020, Eq. 17 and 18, and RepDistiller, their released code; two-layer projectors and
the weights are those of CRD++ (Farhat and Chen 2023, released code). Each network's embedding is compared with the rows
of the other one's memory: its own image's, and `negatives` of other classes. As in the code, rows follow with a
momentum, and the normalisation constant is that of the first batch that has negatives. RepDistiller keeps a row for
every training image; so does this file, up to `memory` rows, beyond which a row belongs to the image that came last
(the author advises a queue for large data). The code begins with random rows; here rows that were never written take
no part, an image that has no row yet stands with its embedding of this step, and an image has as many negatives as
there are. One random order of the rows serves a whole batch, each image takes the first ones of other classes; the
code draws for each image. The rows drawn are enough for a class of an equal share, by 3.4 deviations or more, and on
average for one a quarter above it; an image that finds fewer takes these. RepDistiller itself has linear projectors,
16384 negatives, 0.8 for the contrast, and no KD beside it unless asked for. Training is RepDistiller's on CIFAR, as for
kd.

Cost: kd, two small heads, and a product with two memories (67 MB for 65,536 images).
Use: labels, and a teacher whose features say more than its classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from wisp.data.loader import Batch
from wisp.encoders.heads import mlp
from wisp.errors import WispError
from wisp.losses.contrastive import unit
from wisp.losses.global_batch import average, gather
from wisp.losses.logits import knowledge_distillation
from wisp.losses.noise_contrast import log_level, noise_contrast
from wisp.methods import kd
from wisp.methods.method import Method, Surroundings
from wisp.methods.parts.bank import Bank
from wisp.methods.parts.ranges import fractions, not_negative, positive
from wisp.methods.parts.shuffle import chance
from wisp.methods.parts.taught import Tutored, frozen_of, seen
from wisp.methods.supervised import classifier_of, cross_entropy

NEGATIVES = 4096
"""CRD++, released code."""
MEMORY = 65_536
"""Ours: more than CIFAR's images, and MoCo's queue for ImageNet."""


@dataclass(frozen=True, kw_only=True)
class Config(Tutored):
    """Settings of contrastive representation distillation."""

    projector: Literal["mlp", "linear"] = "mlp"
    """Of both networks: two layers with a ReLU between them (CRD++), or one (CRD)."""
    out: int = 128
    """E, width of the embedding; both papers."""
    temperature: float = 0.07
    """Divides the cosines; RepDistiller and CRD++."""
    negatives: int | None = None
    """Of an image; CRD++'s 4096 (RepDistiller 16384), or as many as there can be, unless given."""
    memory: int | None = None
    """Most rows of either memory; a row for every image, up to 65536, unless given."""
    momentum: float = 0.5
    """Share of what a row was when its image comes again; RepDistiller and CRD++."""
    label_weight: float = 1.0
    """Of the cross-entropy with the labels; RepDistiller and CRD++."""
    weight: float = 1.0
    """Of the contrast; CRD++ (0.8 in RepDistiller)."""
    logit_weight: float = 1.0
    """Of the divergence from the teacher's softened outputs; CRD++ (0 in RepDistiller unless asked for)."""
    logit_temperature: float = 4.0
    """Of these outputs; CRD++ and RepDistiller."""

    @property
    def asks_classes(self) -> bool:
        """Not where the divergence has no weight."""
        return self.logit_weight > 0

    def __post_init__(self) -> None:
        """Checks ranges."""
        super().__post_init__()
        positive(temperature=self.temperature, weight=self.weight, logit_temperature=self.logit_temperature)
        positive(**{name: value for name in ("negatives", "memory") if (value := getattr(self, name)) is not None})
        not_negative(label_weight=self.label_weight, logit_weight=self.logit_weight)
        fractions(momentum=self.momentum)
        if not (self.label_weight or self.logit_weight):
            raise WispError("label_weight and logit_weight are 0, and nothing trains the classifier; leave out one")


SETTINGS = kd.SETTINGS


@final
class CRD(Method):
    """An encoder with a classifier, a frozen teacher, and a projector and a memory of either."""

    needs_labels: ClassVar[bool] = True
    taught: ClassVar[Literal["no", "frozen", "online"]] = "frozen"
    view_count: ClassVar[tuple[int, int | None]] = (1, 1)
    memory_levels: Tensor

    def __init__(self, config: Config, encoder: nn.Module, surroundings: Surroundings) -> None:
        super().__init__()
        self.views = surroundings.plan
        self.config = config
        self.teacher = frozen_of(surroundings, cached=config.cached)
        self.remembers = self.teacher.features if config.cached else 0
        self.encoder = encoder
        self.classifier = classifier_of(surroundings)
        self.projector = _projector(surroundings.features, config)
        self.teacher_projector = _projector(self.teacher.features, config)
        size = min(surroundings.images, MEMORY if config.memory is None else config.memory)
        self.negatives = _negatives(config.negatives, size, surroundings)
        self.candidates = _candidates(self.negatives, size, surroundings)
        self.bank = Bank(size, config.out)
        self.register_buffer(
            "memory_levels", torch.full((2,), -torch.inf)
        )  # of what faces the student's, the teacher's
        self.levelled = False
        self.fresh: tuple[Tensor, Tensor, Tensor] | None = None

    def before_epoch(self, epoch: int) -> None:
        """Finds out whether the normalisation and all rows are there, once an epoch: each look waits for the device."""
        self.levelled = bool(self.memory_levels.isfinite().all())
        self.bank.full = bool((self.bank.owners >= 0).all())

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """One view [B,3,H,W] and labels [B] -> cross-entropy, both contrasts, and the divergence from the teacher."""
        assert batch.labels is not None
        c, labels = self.config, batch.labels
        [theirs] = seen(self.teacher, batch)
        features = self.encoder(batch.views[0])
        logits = self.classifier(features)
        embeddings = unit(torch.stack([self.projector(features), self.teacher_projector(theirs)], dim=1))
        terms = {
            "cross_entropy": c.label_weight * average(cross_entropy(logits, labels)),
            "contrast": c.weight * average(self._contrast(embeddings, batch.index, labels, progress)),
        }
        if c.logit_weight:
            apart = knowledge_distillation(logits, self.teacher.judges(theirs), c.logit_temperature)
            terms["distill"] = c.logit_weight * average(apart)
        return terms

    def _contrast(self, embeddings: Tensor, index: Tensor, labels: Tensor, progress: float) -> Tensor:
        """The teacher's embeddings against the student's memory, and the other way round: [B,2,E] -> their sum."""
        now, m = embeddings.detach(), self.config.momentum
        order = torch.randperm(len(self.bank.owners), generator=chance(progress, "crd")).to(index.device)
        order = self.bank.some(order, self.candidates)
        taken = self.bank.of_other_classes(labels, self.negatives, order)
        rows, candidates = self.bank.of(index, now), self.bank.keys.index_select(0, order).transpose(0, 1)
        facing = embeddings.flip(1).transpose(0, 1) / self.config.temperature  # [2,B,E], beside the other one's memory
        own, levels = (facing * rows.transpose(0, 1)).sum(dim=2), self.memory_levels
        if not self.levelled:
            levels = torch.where(levels.isfinite(), levels, log_level(own, facing, candidates, taken))
        everyone = gather(torch.stack([index, labels]).T)
        self.fresh = everyone, gather(unit(m * rows + (1 - m) * now)), levels
        return noise_contrast(own, facing, candidates, taken, levels).sum()

    def after_step(self, progress: float) -> None:
        """The rows of this step's images follow; the normalisation stays what it once was."""
        if self.fresh is not None:
            who, rows, levels = self.fresh
            self.bank.put(who[:, 0], who[:, 1], rows)
            self.memory_levels.copy_(levels)
            self.fresh = None

    def chosen(self) -> dict[str, float]:
        """Rows of either memory, and an image's negatives."""
        return {"memory": len(self.bank.owners), "negatives": self.negatives}

    def encoders(self) -> dict[str, nn.Module]:
        """The student without its classifier."""
        return {"1x": self.encoder}

    def classifiers(self) -> dict[str, nn.Linear]:
        """The student's classifier."""
        return {"1x": self.classifier}


def _projector(features: int, config: Config) -> nn.Sequential:
    hidden = [features] if config.projector == "mlp" else []
    return mlp([features, *hidden, config.out], norm=False)


def _negatives(asked: int | None, size: int, surroundings: Surroundings) -> int:
    """Of an image: the ones asked for, or the paper's, or all that every image can have.

    The largest class has an equal share at least, so that its images have the rest of the rows at most.

    Raises:
        WispError: more than that, or there are none.
    """
    assert surroundings.classes is not None
    most = size - -(-size // surroundings.classes)
    if most < 1:
        remedy = "--method.memory 2 or more" if surroundings.classes > 1 else "images of two classes or more"
        raise WispError(f"a memory of {size} with classes {surroundings.classes} has no negatives; use {remedy}")
    if asked is None:
        return min(NEGATIVES, most)
    if asked > most:
        raise WispError(
            f"{asked} negatives are more than the {most} images of other classes that a memory of {size} with "
            f"{surroundings.classes} classes can hold; use --method.negatives {most} or fewer"
        )
    return asked


def _candidates(negatives: int, size: int, surroundings: Surroundings) -> int:
    """Rows that a step looks at: on average 16 more than an image of a class a quarter above its share needs."""
    assert surroundings.classes is not None
    return min(size, math.ceil(negatives / (1 - 1.25 / surroundings.classes)) + 16)
