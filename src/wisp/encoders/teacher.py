"""A teacher: a trained encoder that shows a student what it makes of the same views.

Source: what SEED, CompRess, DisCo and BINGO have in common. In their released code the teacher's BatchNorm is in
training mode now and then, normalises by the batch and drifts; here a teacher is frozen: evaluation mode, no gradient,
and not a bit of it changes.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wisp.encoders.stock import Triple
from wisp.errors import WispError


@dataclass(frozen=True, kw_only=True)
class Bill:
    """What the teacher's own training cost; it belongs to the price of every student.

    Attributes:
        flops: of all its steps; None where nobody knows.
        certainty: `known` where wisp trained it, `estimated` where its recipe is public, else `unknown`.
        note: where the number comes from.
        labels: whether it learnt from labels, so that no student of it is label-free; None where nobody knows.
        parts: of a run of wisp: what `flops` is the sum of, with times, as `wisp.cost.road` reads them.
    """

    flops: int | None
    certainty: Literal["known", "estimated", "unknown"]
    note: str
    labels: bool | None = None
    parts: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Sight:
    """How a network's images are prepared: side in pixels, mean and standard deviation of the channels.

    Attributes:
        assumed: nobody says how they were; mean and std are what such networks usually get.
    """

    image_size: int
    mean: Triple
    std: Triple
    assumed: bool = False


class Teacher(nn.Module):
    """A frozen encoder and, where it has one, its projection head.

    It takes the student's views and prepares them as its own training did: its normalisation, its resolution. Its
    weights are not part of a checkpoint, which only remembers which teacher it was.

    Attributes:
        encoder: [B,3,H,W] -> [B,D].
        head: [B,D] -> [B,E], or None.
        classifier: [B,D] -> [B,C], what it takes an image for; None where nobody asked.
        probed: whether that one was made for the task, and not by the teacher's own training.
        features: D.
        width: E, or D where there is no head: of what `forward` gives.
        origin: its name, without a path.
        bill: of its training.
    """

    ratio: Tensor
    shift: Tensor
    fingerprint: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module | None = None,
        classifier: nn.Module | None = None,
        *,
        features: int,
        width: int,
        own: Sight,
        student: Sight,
        origin: str,
        bill: Bill,
    ) -> None:
        """Freezes both.

        Args:
            encoder: trained.
            head: trained with it.
            classifier: trained on its features.
            features: D.
            width: of what `forward` gives.
            own: how the teacher's images are prepared.
            student: how those are that it will be given.
            origin: its name, for messages and receipts.
            bill: of its training.
        """
        super().__init__()
        self.encoder, self.head, self.classifier = encoder, head, classifier
        self.probed = False
        self.features, self.width, self.origin, self.bill = features, width, origin, bill
        self.own, self.student = own, student
        self.requires_grad_(False).eval()
        mean, std, given_mean, given_std = (
            torch.tensor(values, dtype=torch.float64)[:, None, None]
            for values in (own.mean, own.std, student.mean, student.std)
        )
        self.register_buffer("ratio", (given_std / std).float(), persistent=False)
        self.register_buffer("shift", ((given_mean - mean) / std).float(), persistent=False)
        self.register_buffer("fingerprint", torch.tensor(fingerprint(self)))
        # torch does not annotate these two
        self.register_state_dict_post_hook(_only_fingerprint)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_same_teacher)  # type: ignore[no-untyped-call]

    def forward(self, views: Sequence[Tensor]) -> list[Tensor]:
        """What it makes of the student's views, of one side in one pass, not normalised: [B,3,S,S] -> [B,E] of each."""
        return self._through(views, self.head)

    def looks(self, views: Sequence[Tensor]) -> list[Tensor]:
        """Its features, whatever its head: [B,3,S,S] each -> [B,D] each."""
        return self._through(views, None)

    def take(self, probe: nn.Module) -> None:
        """Gives it a classifier [B,D] -> [B,C] of the task, fitted here; a checkpoint carries that one along."""
        self.classifier, self.probed = probe.requires_grad_(False).eval(), True

    def judges(self, features: Tensor) -> Tensor:
        """What it takes images for, from its features of them: [B,D] -> logits [B,C]."""
        assert self.classifier is not None, "a session gives one to the teacher of a task"
        with torch.inference_mode():
            logits: Tensor = self.classifier(features)
        return logits.clone()

    def embeds(self, features: Tensor) -> Tensor:
        """What its head makes of its features: [B,D] -> [B,E]."""
        assert self.head is not None, "a config asks for one"
        with torch.inference_mode():
            embeddings: Tensor = self.head(features)
        return embeddings.clone()

    def train(self, mode: bool = True) -> Teacher:
        """Stays in evaluation mode."""
        return super().train(False)

    def learner(self) -> nn.Module:
        """A copy of the encoder that may learn: the student's images [B,3,H,W], at their own size -> [B,D].

        It keeps the normalisation of its first weights, which would mean something else in other colours. Its
        resolution is the student's: the weights follow, and another one would be paid for in every step.
        """
        encoder = copy.deepcopy(self.encoder).requires_grad_(True).train()
        alike = (self.own.mean, self.own.std) == (self.student.mean, self.student.std)
        return encoder if alike else _Recoloured(encoder, self.ratio, self.shift)

    def absent(self) -> Teacher:
        """Without its encoder, for a method that only looks up what it shows; a checkpoint still says which it was."""
        rest = Teacher(
            nn.Identity(),
            self.head,
            self.classifier,
            features=self.features,
            width=self.width,
            own=self.own,
            student=self.student,
            origin=self.origin,
            bill=self.bill,
        )
        rest.probed = self.probed
        rest.fingerprint.copy_(self.fingerprint)
        return rest

    def _through(self, views: Sequence[Tensor], head: nn.Module | None) -> list[Tensor]:
        found: dict[int, Tensor] = {}
        with torch.inference_mode():
            for side in dict.fromkeys(view.shape[-1] for view in views):
                places = [i for i, view in enumerate(views) if view.shape[-1] == side]
                features = self.encoder(self._prepared(torch.cat([views[i] for i in places])))
                outputs = features if head is None else head(features)
                found |= dict(zip(places, outputs.chunk(len(places)), strict=True))
        # Ordinary tensors again: a loss could not save those of inference mode for its gradient.
        return [found[i].clone() for i in range(len(views))]

    def _prepared(self, images: Tensor) -> Tensor:
        """The student's images [B,3,S,S] with the teacher's normalisation, at its resolution."""
        if (self.own.mean, self.own.std) != (self.student.mean, self.student.std):
            images = images * self.ratio + self.shift
        side = round(images.shape[-1] * self.own.image_size / self.student.image_size)
        if side == images.shape[-1]:
            return images
        images = images.to(torch.promote_types(images.dtype, torch.float32))  # a CPU does not resize bf16
        return F.interpolate(images, size=(side, side), mode="bilinear", antialias=True, align_corners=False)


class _Recoloured(nn.Module):
    """An encoder behind another normalisation of its images, [B,3,H,W] -> [B,D]."""

    ratio: Tensor
    shift: Tensor

    def __init__(self, encoder: nn.Module, ratio: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("ratio", ratio.clone(), persistent=False)
        self.register_buffer("shift", shift.clone(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.encoder(images * self.ratio + self.shift)
        return found


def fingerprint(network: nn.Module) -> int:
    """A number that any other weights would change, in [0, 2^63)."""
    digest = hashlib.blake2b(digest_size=8)
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    tensors.pop("fingerprint", None)
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return int.from_bytes(digest.digest(), "little") >> 1


def _only_fingerprint(teacher: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    """A checkpoint of the student does not carry the teacher along, but for what was fitted for this training.

    Another number of threads would fit it a little differently, and would not be the same teacher.
    """
    assert isinstance(teacher, Teacher)
    for key in [key for key in state if key.startswith(prefix) and key != f"{prefix}fingerprint"]:
        if not (teacher.probed and key.startswith(f"{prefix}classifier.")):
            del state[key]


def _same_teacher(teacher: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Puts the teacher's own weights in the place of those that no checkpoint has.

    Raises:
        WispError: the checkpoint was made with another teacher.
    """
    assert isinstance(teacher, Teacher)
    kept = state.get(f"{prefix}fingerprint")
    if kept is not None and int(kept) != int(teacher.fingerprint):
        raise WispError(
            f"the teacher {teacher.origin} is not the one that this training began with; bring that one back, or name "
            "another --out"
        )
    for name, part in (("encoder", teacher.encoder), ("head", teacher.head), ("classifier", teacher.classifier)):
        if part is not None:
            for key, tensor in part.state_dict(prefix=f"{prefix}{name}.").items():
                state.setdefault(key, tensor)
