"""A place in the information plane: what a coarse version of the features keeps of image and label, in bits.

Source: DisCo (Gao et al. 2022), section 3.3 and Fig. 7, after Cheng et al. 2018 and Shwartz-Ziv & Tishby 2017. T is the
features cut into bins, X the image, Y its label. A network gives an image always the same T, and every image is a value
of its own: I(X;T) = H(T) - H(T|X) = H(T). With shares p of N images:

    H(T) = - sum_t p(t) log2 p(t)           I(T;Y) = sum_ty p(t,y) log2 [p(t,y) / (p(t) p(y))]

T is ours. Cheng et al. take a classifier's output, which an encoder does not have. To cut all D features would make
every image a cell of its own (H(T) = log2 N, I(T;Y) = H(Y), whatever the network). So T knows little: of features of
length 1, whether an image lies low, in the middle or high along each of the four leading principal components: at most
81 cells. The middle is as wide as the standard deviation of the *first* component: the scale of the features does not
matter, and a component in which nothing happens adds nothing. What all features know of the label is more than I(T;Y),
and may grow while it falls. Places compare where the images are the same.

Bias (Miller 1955), with |T| cells in use: H(T) is too low by about (|T| - 1) / (2 N ln 2), I(T;Y) too high by about
(|T| - 1) (|Y| - 1) / (2 N ln 2). Nothing is subtracted; what the second comes to is said beside it, as the exact mean
of I(T;Y) over all ways to deal the same labels to the images (Vinh et al. 2010). H(T) cannot pass log2 N: where 2^H(T)
is more than N / 2, as if cells held fewer than two images, the place is saturated: it says more of N than of T.

Legend: N images, D features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from wisp.errors import WispError

COMPONENTS = 4
LEVELS = 3
_SAME = 1e-6
"""Features of length 1 that are closer than this are one: they are float32."""


@dataclass(frozen=True)
class Place:
    """Where an encoder lies in the information plane, in bits.

    Attributes:
        image: I(X;T), the entropy of T.
        label: I(T;Y); None without labels.
        chance: the mean of I(T;Y) over all ways to deal the labels, its bias; None without labels.
        saturated: whether there are too few images for so many cells.
    """

    image: float
    label: float | None
    chance: float | None
    saturated: bool


def place(features: Tensor, labels: Tensor | None) -> Place:
    """The place of an encoder.

    Args:
        features: of plain images, [N,D].
        labels: int64 [N], if there are any.

    Raises:
        WispError: features that are not finite.
    """
    cells = quantised(features)
    known = entropy(cells)
    return Place(
        image=known,
        label=None if labels is None else mutual_information(cells, labels),
        chance=None if labels is None else by_chance(cells, labels),
        saturated=2**known > len(cells) / 2,
    )


def ceiling(images: int) -> float:
    """The most bits that I(X;T) can be: all cells, or all images, equally often."""
    return math.log2(min(images, LEVELS**COMPONENTS))


def quantised(features: Tensor) -> Tensor:
    """T: features [N,D] -> the number of each image's cell, int64 [N] on the CPU.

    Raises:
        WispError: features that are not finite.
    """
    if not bool(torch.isfinite(features).all()):
        raise WispError("the encoder gives non-finite features, which have no place in the information plane")
    centred = F.normalize(features.double().cpu(), dim=1)
    centred = centred - centred.mean(dim=0)
    left, singular, _ = torch.linalg.svd(centred, full_matrices=False)
    scores = left[:, :COMPONENTS] * singular[:COMPONENTS]
    width = float(singular[0]) / math.sqrt(len(features))
    if width < _SAME:
        return torch.zeros(len(features), dtype=torch.int64)
    levels = (scores / width).round().clamp(-1, 1).long() + 1  # rounding, so that the sign of a component is nothing
    digits = torch.tensor([LEVELS**number for number in range(levels.shape[1])])
    numbers: Tensor = (levels * digits).sum(dim=1)
    return numbers


def entropy(values: Tensor) -> float:
    """H in bits of int64 [N]."""
    return mutual_information(values, values)


def mutual_information(a: Tensor, b: Tensor) -> float:
    """I in bits of int64 [N] and [N], from their shares: the plug-in estimate."""
    from sklearn.metrics import mutual_info_score

    return float(mutual_info_score(a.numpy(), b.numpy())) / math.log(2)


def by_chance(a: Tensor, b: Tensor) -> float:
    """The mean of `mutual_information` over all orders of `b`."""
    from sklearn.metrics.cluster import contingency_matrix, expected_mutual_information

    return float(expected_mutual_information(contingency_matrix(a.numpy(), b.numpy()), len(a))) / math.log(2)
