"""A/U: with labels, a student's embeddings meet its teacher's and keep apart, beside the labels and distillation.

Source: Farhat and Chen 2023, section 3.2, Eq. 1 to 3, Figure 4 and Appendix A.5; released code (dapt). Eq. 2 does not
show that the uniformity of student and teacher is halved; pseudo-code and code do, and it is here. Eq. 3 is a
cross-entropy, code and this file have the divergence: the gradient is the same, and 0 is agreement; its temperature 4
stands in the code only. There the weights of the command line do not arrive, and a teacher without a classifier is
distilled with a random one; here weights count, and such a teacher is probed, or `logit_weight` is 0. Both projectors
are trained; the code keeps MoCo's own head for a teacher of MoCo's, as `teacher_head` pretrained does. So of a teacher
without a classifier nothing but features is used with `logit_weight` 0, a linear probe with `teacher_classifier`
probed, and its own projection head with `teacher_head` pretrained. Table 8 has SRRL's loss in the place of the
divergence: its text compares the logits alone, here it is SRRL's whole loss, that of the features, too. Barlow Twins'
is divided by E: a sum over 128 dimensions that do not agree yet would be fifty times the cross-entropy. AdamW has no
schedule there and a cosine here. The images are centred, resized and flipped in A.5, but cropped, too, in section 4
and in code: here the supervised row's crop and flip. The code's result is its best test epoch, here it is the last: do
not expect the numbers of Table 3, where CIFAR-10 is no better than plain labels (92.66 and 92.83).

Cost: KD, two small projectors, and N x N similarities of each side; the teacher looks once for both.
Use: labels, and a strong teacher of any architecture; for a task of its own, in the place of pre-training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from wisp.data.loader import Batch
from wisp.errors import WispError
from wisp.losses.alignment import alignment, uniformity
from wisp.losses.contrastive import between_networks, info_nce, unit
from wisp.losses.decorrelation import barlow, standardize
from wisp.losses.global_batch import average, gather, rank
from wisp.losses.logits import knowledge_distillation
from wisp.methods.method import Method, Surroundings
from wisp.methods.parts.projectors import Kind, projectors
from wisp.methods.parts.ranges import not_negative, positive
from wisp.methods.parts.taught import Tutored, frozen_of, seen
from wisp.methods.srrl import DAPT, connector, differences
from wisp.methods.srrl import SETTINGS as SRRL
from wisp.methods.supervised import classifier_of, cross_entropy


@dataclass(frozen=True, kw_only=True)
class Config(Tutored):
    """Settings of A/U distillation."""

    loss: Literal["au", "info_nce", "barlow"] = "au"
    """Of the embeddings: alignment and uniformity, Eq. 2; or what they stand for, Eq. 1; or Barlow Twins' over E."""
    projector: Kind = "moco_v2"
    """Of both sides; the paper, whose Table 8 has linear, too, and its code the others. Hidden layers have D units."""
    teacher_head: Literal["none", "pretrained"] = "none"
    """Whether the head of the teacher's own training, frozen, stands for its projector; the paper's code, for MoCo."""
    out: int | None = None
    """E, width of the embedding; that of the teacher's own head, else the 128 of the paper's code, unless given."""
    t: float = 2.0
    """How fast a pair's potential falls with its squared distance; the paper, after Wang and Isola 2020."""
    align_weight: float = 1.0
    """Of the alignment; the paper."""
    uniform_weight: float = 1.0
    """Of the mean of both uniformities; the paper."""
    contrast_temperature: float = 0.07
    """Divides the cosines of info_nce; ours, as in CRD (Tian et al. 2020)."""
    lam: float = 0.0051
    """Weight of the off-diagonal terms of barlow; its authors' code."""
    label_weight: float = 1.0
    """Of the cross-entropy with the labels; the paper."""
    embed_weight: float = 1.0
    """Of the loss of the embeddings, whichever it is; the paper."""
    logit_weight: float = 1.0
    """Of the loss of what the teacher takes an image for, whichever it is; the paper."""
    logit_loss: Literal["kd", "srrl"] = "kd"
    """Which: the divergence of softened outputs, or both differences of SRRL; the paper, whose Table 8 has both."""
    temperature: float = 4.0
    """Of that divergence; the paper's code."""

    @property
    def asks_classes(self) -> bool:
        """Not where the loss of that has no weight."""
        return self.logit_weight > 0

    def __post_init__(self) -> None:
        """Checks ranges, and that something is learnt from everybody."""
        super().__post_init__()
        positive(t=self.t, contrast_temperature=self.contrast_temperature, temperature=self.temperature)
        not_negative(
            align_weight=self.align_weight,
            uniform_weight=self.uniform_weight,
            lam=self.lam,
            label_weight=self.label_weight,
            embed_weight=self.embed_weight,
            logit_weight=self.logit_weight,
        )
        if not (self.label_weight or self.logit_weight):
            raise WispError("label_weight and logit_weight are 0, and nothing trains the classifier; leave out one")
        if not self.label_weight and self.logit_loss == "srrl":
            raise WispError(
                "label_weight is 0, and srrl asks the teacher's classifier alone; use --method.logit-loss kd"
            )
        if self.loss == "au" and not (self.align_weight or self.uniform_weight) and self.embed_weight:
            raise WispError("align_weight and uniform_weight are 0; use --method.embed-weight 0 to do without both")
        if not (self.embed_weight or self.logit_weight):
            raise WispError(
                "embed_weight and logit_weight are 0, and nothing is learnt from the teacher; leave out one"
            )
        if self.teacher_head == "pretrained" and not self.embed_weight:
            raise WispError("embed_weight is 0, and nobody asks the teacher's head; leave out --method.teacher-head")


SETTINGS = {"small": SRRL["small"], "large": DAPT}


@final
class AU(Method):
    """An encoder with a linear classifier and a projector, and a frozen teacher with a projector or a head."""

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
        self.projector, self.teacher_projector = None, None
        if config.embed_weight:
            self.projector, self.teacher_projector = projectors(
                config.projector, surroundings.features, self.teacher, config.out
            )
        by_classes = config.logit_weight and config.logit_loss == "srrl"
        self.connector = connector(surroundings.features, self.teacher.features) if by_classes else None

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """All views [B,3,H,W] and labels [B] -> every term that has a weight; means over views and the global batch."""
        assert batch.labels is not None
        views = [
            self._terms(self.encoder(view), theirs, batch.labels)
            for view, theirs in zip(batch.views, seen(self.teacher, batch), strict=True)
        ]
        return {
            name: weight * torch.stack([view[name][1] for view in views]).mean()
            for name, (weight, _) in views[0].items()
        }

    def _terms(self, ours: Tensor, theirs: Tensor, labels: Tensor) -> dict[str, tuple[float, Tensor]]:
        """Features [B,D] of the student and the teacher, and labels [B] -> weight and value of each term."""
        c = self.config
        found: dict[str, tuple[float, Tensor]] = {}
        logits = self.classifier(ours)
        if c.label_weight:
            found["cross_entropy"] = (c.label_weight, average(cross_entropy(logits, labels)))
        if self.projector is not None:
            shown = self.teacher.embeds if self.teacher_projector is None else self.teacher_projector
            terms = self._meeting(self.projector(ours), shown(theirs))
            found |= {name: (c.embed_weight * weight, value) for name, (weight, value) in terms.items()}
        if self.connector is not None:
            far, unlike = differences(self.connector(ours), theirs, self.teacher)
            found["features"] = (c.logit_weight, average(far))
            found["logits"] = (c.logit_weight, average(unlike))
        elif c.logit_weight:
            apart = knowledge_distillation(logits, self.teacher.judges(theirs), c.temperature)
            found["distill"] = (c.logit_weight, average(apart))
        return found

    def _meeting(self, ours: Tensor, theirs: Tensor) -> dict[str, tuple[float, Tensor]]:
        """Embeddings [B,E] of the student and the teacher -> weight and value of each term between them."""
        c = self.config
        if c.loss == "barlow":
            apart = barlow(standardize(gather(ours)), standardize(gather(theirs)), c.lam)
            return {"contrast": (1.0, apart / ours.shape[1])}
        zs, zt = unit(ours), unit(theirs)
        if c.loss == "info_nce":
            contrast = between_networks(zs, zt, gather(zs), gather(zt), rank() * len(zs))
            return {"contrast": (1.0, average(info_nce(*contrast, c.contrast_temperature)))}
        found: dict[str, tuple[float, Tensor]] = {}
        if c.align_weight:
            found["align"] = (c.align_weight, average(alignment(zs, zt)))
        if c.uniform_weight:
            both = (uniformity(gather(zs), c.t) + uniformity(gather(zt), c.t)) / 2
            found["uniform"] = (c.uniform_weight, both)
        return found

    def encoders(self) -> dict[str, nn.Module]:
        """The student without its classifier."""
        return {"1x": self.encoder}

    def classifiers(self) -> dict[str, nn.Linear]:
        """The student's classifier."""
        return {"1x": self.classifier}

    def head(self) -> nn.Module | None:
        """The student's projector, if any."""
        return self.projector
