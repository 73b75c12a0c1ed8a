"""Alignment and uniformity: a prediction points where its target points, and images keep away from each other."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wisp.losses.precision import full_precision


@full_precision
def alignment(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean of 2 - 2 cos(prediction, target) over N of [N,E], [N,E]: the squared distance of unit vectors.

    BYOL's loss (Grill et al. 2020, Eq. 2), and that of Wang and Isola 2020, Eq. 1, with exponent 2. SimSiam's -cos
    (Chen and He 2021, Eq. 1) is half of it less 1: the same gradient at twice the factor.
    """
    return 2 - 2 * F.cosine_similarity(prediction, target, dim=1).mean()


@full_precision
def uniformity(z: Tensor, t: float) -> Tensor:
    """Log of the mean over pairs i < j of exp(-t ||z_i - z_j||^2), z [N,E] (Wang and Isola 2020, Eq. 2): a scalar.

    0 where all rows are the same, and below it the further they are apart. At no time is more than one [N,N] held.

    Args:
        z: unit rows of the global batch, two or more.
        t: how fast the potential falls with the distance.
    """
    found: Tensor = _Uniformity.apply(z, t)
    return found


class _Uniformity(torch.autograd.Function):
    """The gradient is made beside the value, so that the backward pass holds [N,E] and not [N,N]."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, t: float) -> Tensor:
        pairs = len(z) * (len(z) - 1)
        potentials = (2 * t * z) @ z.T  # ||z_i - z_j||^2 is 2 - 2 z_i z_j
        # No image is a pair with itself. The closest pair comes off before the powers: none of t empties the sum.
        potentials.fill_diagonal_(-math.inf)
        closest = potentials.amax()
        potentials.sub_(closest).exp_()
        total = potentials.sum()
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward((potentials @ z).mul_(4 * t / total))
        return total.log() + closest - 2 * t - math.log(pairs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return gradients[0] * slope, None
