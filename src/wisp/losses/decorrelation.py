"""Losses on the cross-correlation matrix of two batches of embeddings: Barlow Twins and cross-distillation.

Embeddings are [N,E], standardised over the (global) batch and divided by its size, so that C = Za' Zb has the
correlation coefficients as entries (Meng et al. 2023, Eq. 7; Zbontar et al. 2021, Eq. 2). Everything is computed in
float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wisp.losses.precision import full_precision

EPSILON = 1e-5
"""Added to the variance, as an affine-free BatchNorm does: a dead dimension has correlation 0 and not NaN."""


@full_precision
def standardize(z: Tensor) -> Tensor:
    """Zero mean and unit biased variance per dimension, over sqrt(N): [N,E] -> [N,E] with Za' Zb = C."""
    centred = z - z.mean(dim=0)
    scale = torch.rsqrt(centred.square().mean(dim=0) + EPSILON)
    standard: Tensor = centred * (scale / z.shape[0] ** 0.5)
    return standard


def diagonal(za: Tensor, zb: Tensor) -> Tensor:
    """Correlation of each dimension with itself, C_ii: standardised [N,E], [N,E] -> [E]."""
    return (za * zb).sum(dim=0)


@full_precision
def off_diagonal(za: Tensor, zb: Tensor) -> Tensor:
    """Sum of the squared correlations between different dimensions, sum_{i != j} C_ij^2, of standardised [N,E], [N,E].

    ||Za' Zb||_F^2 = sum((Za Za') * (Zb Zb')): 2 N^2 E operations instead of N E^2, chosen by size.
    """
    squared = (za @ za.T * (zb @ zb.T)).sum() if 2 * za.shape[0] < za.shape[1] else (za.T @ zb).square().sum()
    return squared - diagonal(za, zb).square().sum()


@full_precision
def inner_correlation(za: Tensor, zb: Tensor) -> Tensor:
    """sum_i (1 - C_ii)^2 of standardised [N,E], [N,E]: the invariance term, squared as in Barlow Twins."""
    return (1 - diagonal(za, zb)).square().sum()


def barlow(za: Tensor, zb: Tensor, lam: float) -> Tensor:
    """sum_i (1 - C_ii)^2 + lam sum_{i != j} C_ij^2 of standardised [N,E], [N,E] (Zbontar et al. 2021, Eq. 1)."""
    return inner_correlation(za, zb) + lam * off_diagonal(za, zb)


@full_precision
def negative_log(z: Tensor, target: Tensor) -> Tensor:
    """-softmax(target) log softmax(z), summed over E and averaged over N (Meng et al. 2023, Eq. 12).

    The paper prints -[z~] log z; embeddings are real numbers, so that both sides need a softmax over the dimensions, as
    in the clustering losses that it refers to. `target` gets no gradient.
    """
    p = target.detach().softmax(dim=1)
    return -(p * z.log_softmax(dim=1)).sum(dim=1).mean()


@full_precision
def variance_hinge(z: Tensor) -> Tensor:
    """Mean over dimensions of max(0, 1 - sqrt(var + 1e-4)) of [N,E]; unbiased variance (Bardes et al. 2022, Eq. 1)."""
    return torch.relu(1 - (z.var(dim=0) + 1e-4).sqrt()).mean()


@full_precision
def covariance(z: Tensor) -> Tensor:
    """Sum of the squared covariances between different dimensions of [N,E], over E (Bardes et al. 2022, Eq. 3, 4)."""
    centred = (z - z.mean(dim=0)) / (z.shape[0] - 1) ** 0.5
    return off_diagonal(centred, centred) / z.shape[1]
