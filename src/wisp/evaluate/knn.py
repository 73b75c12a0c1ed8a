"""Weighted k-nearest-neighbour accuracy: how well neighbours in feature space share a label, with nothing trained.

Source: Wu et al. 2018 (InstDisc), section 3.4; the same protocol in DINO (Caron et al. 2021). Cosine similarity s; each
of the k nearest training images votes for its class with weight exp(s / temperature).
Legend: N training images, M test images, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.classification import multiclass_stat_scores

from wisp.evaluate.features import Features

_ELEMENTS = 2**24
"""Similarities held at a time (64 MiB in float32), however large the sets are."""


def neighbours(ks: Sequence[int], images: int) -> tuple[tuple[int, ...], str | None]:
    """The usable ones of `ks` (k <= N/2), and a line that says what was left out, if anything was.

    When none is usable the smallest is clipped to N/2, so that there is always a number to look at.
    """
    limit = max(1, images // 2)
    kept = tuple(sorted({k for k in ks if k <= limit})) or (limit,)
    if len(kept) == len(set(ks)) and set(kept) == set(ks):
        return kept, None
    asked, used = (", ".join(str(k) for k in sorted(set(group))) for group in (ks, kept))
    return kept, f"kNN: k = {used} instead of {asked}: k is at most half of the {images} training images"


def knn(features: Features, ks: Sequence[int] = (20, 200), temperature: float = 0.07) -> dict[int, float]:
    """Accuracy on the test set in percent, by k; a k above N/2 is left out (see `neighbours`).

    Args:
        features: runs on their device, in chunks of bounded memory.
        ks: numbers of neighbours.
        temperature: of the vote exp(cosine / temperature).
    """
    kept, _ = neighbours(ks, len(features.train))
    train = F.normalize(features.train, dim=1)
    test = F.normalize(features.test, dim=1)
    rows = max(1, _ELEMENTS // max(len(train), features.classes))
    predicted: dict[int, list[Tensor]] = {k: [] for k in kept}
    for chunk in torch.split(test, rows):
        similarity, index = (chunk @ train.T).topk(kept[-1], dim=1)  # [m,k], nearest first
        weights = (similarity / temperature).exp()
        labels = features.train_labels[index]
        for k in kept:
            votes = weights.new_zeros(len(chunk), features.classes)
            votes.scatter_add_(1, labels[:, :k], weights[:, :k])
            predicted[k].append(votes.argmax(dim=1))
    return {k: accuracy(torch.cat(predicted[k]), features.test_labels, features.classes) for k in kept}


def accuracy(predicted: Tensor, labels: Tensor, classes: int) -> float:
    """Share of right predictions [M] in percent."""
    # torchmetrics calls two classes a binary task; at least two keeps it on this one.
    right, *_, asked = multiclass_stat_scores(predicted, labels, max(2, classes), average="micro").tolist()
    return 100 * int(right) / int(asked)  # counts: its accuracy would be a float32
