"""Whether one linear layer could serve two widths: the condition of SlimCLR's appendix.

Source: Zhao et al. 2022, appendix A, Eq. 8-23. A slimmable layer reads the first d1 of the full network's d features
with the same weights as the narrow network's d1 features. Least squares gives the one and the other; a single layer can
be best for both only where the two sides of Eq. 23 are equal. The authors found a mean difference of 1.07 between their
entries on 2,048 training images of ImageNet, 0.88 on validation images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from wisp.errors import WispError


@dataclass(frozen=True)
class Condition:
    """How far two widths are from Eq. 23.

    Attributes:
        mean: absolute difference of an entry of both sides, on average.
        total: over all entries.
        relative: mean difference over the mean size of the right side's entries; 0 where the condition holds.
    """

    mean: float
    total: float
    relative: float


def condition(full: Tensor, narrow: Tensor, labels: Tensor) -> Condition:
    """Both sides of Eq. 23 for the same images.

    Args:
        full: X, features [N,d] at full width.
        narrow: X1, [N,d1] of the narrow network.
        labels: int64 [N], the classes; T is one-hot.

    Raises:
        WispError: fewer images than features, of which least squares would make anything.
    """
    n, d = full.shape
    if n < d:
        raise WispError(f"Eq. 23 needs as many images as features, {d} or more; there are {n}")
    target = F.one_hot(labels).double()
    left = _least_squares(full, target)[: narrow.shape[1]]
    right = _least_squares(narrow, target)
    difference = (left - right).abs()
    return Condition(float(difference.mean()), float(difference.sum()), float(difference.mean() / right.abs().mean()))


def _least_squares(x: Tensor, target: Tensor) -> Tensor:
    """The smallest theta of those with the least |x theta - target|: a dead feature gets weight 0 (Eq. 9)."""
    theta: Tensor = torch.linalg.pinv(x.double()) @ target
    return theta
