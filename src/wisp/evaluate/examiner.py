"""The examiner: the same questions to every encoder of a run, between epochs and at the end."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wisp.data.loader import Batch
from wisp.data.plain import plain_batches
from wisp.data.sources import Source, labels_of
from wisp.evaluate.answers import Answers
from wisp.evaluate.augmented import cropped_and_flipped
from wisp.evaluate.features import Features, extract
from wisp.evaluate.health import Health, health
from wisp.evaluate.knn import knn
from wisp.evaluate.linear import LinearResult, linear

_MONITOR = (5000, 1000)
"""At most so many training and test images answer between epochs."""
_HEALTH_IMAGES = 1024
Role = Literal["train", "test", "others"]


class Examiner:
    """Extracts features of plain images and asks for kNN and linear accuracy.

    Args:
        image_size: side of the encoder's images in pixels.
        mean: per channel, in 0..1.
        std: per channel.
        train: labelled images in which neighbours are looked for; None where there are no labels.
        test: labelled images that are asked about; None where there are no labels.
        device: where encoders run.
        batch_size: images at a time.

    Attributes:
        unreadable: "name: reason" of the corrupt images met so far, which are left out, by index: of `train`, of
            `test`, and of `others` that somebody wanted to see.
    """

    def __init__(
        self,
        train: Source | None,
        test: Source | None,
        *,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device,
        batch_size: int,
    ) -> None:
        self.train, self.test, self.device, self.batch_size = train, test, device, batch_size
        self.image_size, self._mean, self._std = image_size, mean, std
        self.unreadable: dict[Role, dict[int, str]] = {"train": {}, "test": {}, "others": {}}

    def features(self, encoder: nn.Module, source: Source, indices: Sequence[int]) -> tuple[Tensor, list[int]]:
        """Features [N,D] float32 of some plain images, on the CPU, and the N indices they are of: readable ones."""
        left_out: set[int] = set()
        features = extract(encoder, self._batches(source, indices, self.device, left_out), self.device)
        return features, [index for place, index in enumerate(indices) if place not in left_out]

    def images(self, source: Source, indices: Sequence[int]) -> tuple[Tensor, list[int]]:
        """Some images as an encoder wants them, [N,3,S,S] normalised, on the CPU, and the N indices; as `features`."""
        left_out: set[int] = set()
        images = torch.cat(list(self._batches(source, indices, torch.device("cpu"), left_out)))
        return images, [index for place, index in enumerate(indices) if place not in left_out]

    def _batches(
        self, source: Source, indices: Sequence[int], device: torch.device, left_out: set[int]
    ) -> Iterable[Tensor]:
        return plain_batches(
            source,
            indices,
            image_size=self.image_size,
            mean=self._mean,
            std=self._std,
            batch_size=self.batch_size,
            device=device,
            unreadable=self.unreadable[self._role(source)],
            left_out=left_out,
        )

    def _role(self, source: Source) -> Role:
        return "test" if source is self.test else "train" if source is self.train else "others"

    def both(self, encoder: nn.Module, most: tuple[int, int] | None = None, *, augmented: int = 0) -> Features | None:
        """Features and labels of both sets, or of evenly spaced images of them; None without labels.

        Args:
            encoder: runs on the examiner's device.
            most: training and test images at most; all unless given.
            augmented: passes of random crops and flips over the training images.
        """
        if self.train is None or self.test is None:
            return None
        most = most or (len(self.train), len(self.test))
        (train, seen), (test, asked) = (
            self.features(encoder, source, evenly(source, limit))
            for source, limit in zip((self.train, self.test), most, strict=True)
        )
        passes: tuple[Tensor, ...] = ()
        if augmented:
            passes = cropped_and_flipped(
                encoder,
                self.train,
                seen,
                train,
                passes=augmented,
                image_size=self.image_size,
                mean=self._mean,
                std=self._std,
                batch_size=self.batch_size,
                device=self.device,
            )
        return Features(train, labels_at(self.train, seen), test, labels_at(self.test, asked), passes)

    def monitor(
        self, encoder: nn.Module, classifier: nn.Linear | None = None
    ) -> tuple[dict[str, float], float | None] | None:
        """KNN accuracy by k on a part of the data, and top-1 of a classifier on its features; None without labels.

        Args:
            encoder: runs on the examiner's device.
            classifier: [B,D] -> [B,C], trained on top of it.
        """
        features = self.both(encoder, _MONITOR)
        if features is None:
            return None
        top1 = None
        if classifier is not None:
            weight, bias = (each.detach().to(features.test) for each in (classifier.weight, classifier.bias))
            top1 = Answers(F.linear(features.test, weight, bias).argmax(1), features.test_labels).top1
        return {str(k): v for k, v in knn(features).items()}, top1

    def final(self, encoder: nn.Module) -> tuple[dict[str, float], LinearResult] | None:
        """KNN accuracy by k and the linear probe on all data, or None without labels."""
        features = self.both(encoder)
        if features is None:
            return None
        return {str(k): v for k, v in knn(features).items()}, linear(features)

    def answers(self, classifier: nn.Module, numbers: Sequence[int] | None = None) -> Answers:
        """What a classifier [B,3,H,W] -> [B,C] takes all test images for.

        Args:
            classifier: runs on the examiner's device.
            numbers: which of its C classes each class of the test images is; the same one unless given.
        """
        assert self.test is not None, "a method that needs labels has questions"
        logits, asked = self.features(classifier, self.test, range(len(self.test)))
        labels = labels_at(self.test, asked)
        return Answers(logits.argmax(1), labels if numbers is None else torch.tensor(numbers)[labels])


def evenly(source: Source, most: int) -> range:
    """Indices of at most so many images, evenly spaced."""
    return range(0, len(source), max(1, -(-len(source) // most)))


def labels_at(source: Source, indices: Sequence[int]) -> Tensor:
    """Labels of some images, int64 [N].

    Raises:
        WispError: the source has no labels.
    """
    labels = labels_of(source)
    return torch.tensor([labels[i] for i in indices])


def health_of(encoder: nn.Module, batches: Iterable[Batch], device: torch.device) -> Health:
    """Health of the features of about a thousand images, with alignment where a batch holds two views."""
    seen: list[Batch] = []
    count = 0
    for batch in batches:
        seen.append(batch)
        count += len(batch.index)
        if count >= _HEALTH_IMAGES:
            break
    views = [extract(encoder, (batch.views[v] for batch in seen), device) for v in range(min(2, len(seen[0].views)))]
    return health(*views)


def as_row(found: Health) -> dict[str, Any]:
    """Plain values for the journal."""
    return dataclasses.asdict(found)


def first(batches: Iterable[Batch], count: int) -> Iterable[Batch]:
    """The first `count` batches."""
    return itertools.islice(batches, count)
