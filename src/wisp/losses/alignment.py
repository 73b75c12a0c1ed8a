"""Alignment losses: a prediction points where its target points."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from wisp.losses.precision import full_precision


@full_precision
def alignment(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean of 2 - 2 cos(prediction, target) over N of [N,E], [N,E]: the squared distance of unit vectors.

    BYOL's loss (Grill et al. 2020, Eq. 2). SimSiam's -cos (Chen and He 2021, Eq. 1) is half of it less 1: the same
    gradient at twice the factor.
    """
    return 2 - 2 * F.cosine_similarity(prediction, target, dim=1).mean()
