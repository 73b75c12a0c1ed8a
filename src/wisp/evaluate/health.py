"""Is the embedding alive: four numbers that need no label, and a warning in plain words.

Sources: per-dimension std, SimSiam (Chen & He 2021, section 4.1); effective rank, Roy & Vetterli 2007; alignment and
uniformity, Wang & Isola 2020.  Legend: N images, D features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from wisp.errors import WispError

COLLAPSED_STD = 0.01
"""Seen on real images: 0.09 to 0.8 for untrained and trained encoders alike."""
COLLAPSED_RANK = 0.5
"""Times sqrt(dimensions): 4 of 64, 16 of 1024. Seen on real images: 38 of 64, and 60 to 170 of 512 to 1280."""
_ROWS = 1024


@dataclass(frozen=True)
class Health:
    """Health of features [N,D].

    Attributes:
        std: std of the L2-normalised features, averaged over dimensions, times sqrt(D): 1 for features spread evenly
            over the sphere, 0 when all images meet in one point. Pooled ReLU features are non-negative, share a mean
            direction and stay below 1 when they are well.
        effective_rank: dimensions in use, 1 .. min(N-1, D).
        alignment: mean squared distance of two views of an image (0 best), None without a second view.
        uniformity: log of the mean Gaussian potential of all pairs (0 when collapsed, -4 at best).
        warning: what is wrong, the likely cause and the remedy, or None.
    """

    std: float
    effective_rank: float
    alignment: float | None
    uniformity: float
    warning: str | None


def health(features_a: Tensor, features_b: Tensor | None = None) -> Health:
    """Measures features [N,D] of one view of N images, and of a second view of the same images if there is one.

    Everything is computed on the L2-normalised features in float64. The effective rank is that of the *centred*
    features: a shared mean direction tells no image from another, and would hide a collapse or fake one.

    Raises:
        WispError: fewer than two images, or two views of different shape.
    """
    if features_a.ndim != 2 or len(features_a) < 2:
        raise WispError(f"health needs features of two images or more, got shape {list(features_a.shape)}")
    if features_b is not None and features_b.shape != features_a.shape:
        raise WispError(f"two views of different shape: {list(features_a.shape)} and {list(features_b.shape)}")
    views = [x.double() for x in (features_a, features_b) if x is not None]
    if not all(bool(torch.isfinite(x).all()) for x in views):
        broken = "the encoder gives non-finite features: training has diverged; lower --lr or use --precision fp32"
        return Health(math.nan, math.nan, math.nan if len(views) == 2 else None, math.nan, broken)
    views = [F.normalize(x, dim=1) for x in views]
    images, size = views[0].shape
    std = float(views[0].std(dim=0, correction=0).mean()) * math.sqrt(size)
    rank = effective_rank(views[0] - views[0].mean(dim=0))
    return Health(
        std=std,
        effective_rank=rank,
        alignment=alignment(views[0], views[1]) if len(views) == 2 else None,
        uniformity=sum(uniformity(x) for x in views) / len(views),
        warning=_warning(std, rank, min(images - 1, size)),
    )


def effective_rank(x: Tensor) -> float:
    """exp(-sum_i p_i log p_i) with p = singular values over their sum (Roy & Vetterli 2007), x [N,D] as it is given.

    1 for a matrix of rank one or zero, min(N,D) for equal singular values.
    """
    x = x.double()
    gram = x.T @ x if x.shape[0] >= x.shape[1] else x @ x.T  # the smaller side: its eigenvalues are squares
    squares = torch.linalg.eigvalsh(gram)
    # Rounding makes zeros about eps * largest, whose roots are not small: 1e-8 each, a thousand times.
    floor = squares[-1].clamp(min=0) * len(squares) * torch.finfo(torch.float64).eps
    singular = squares[squares > floor].sqrt()
    if not len(singular):
        return 1.0
    p = singular / singular.sum()
    return math.exp(-float((p * p.log()).sum()))


def alignment(a: Tensor, b: Tensor) -> float:
    """Mean over images of ||a_n - b_n||^2 for L2-normalised a, b [N,D] (Wang & Isola, Eq. 1 with exponent 2)."""
    return float((a - b).square().sum(dim=1).mean())


def uniformity(x: Tensor, t: float = 2.0) -> float:
    """Log of the mean over pairs n != m of exp(-t ||x_n - x_m||^2), x [N,D] L2-normalised (Wang & Isola, Eq. 2)."""
    images = len(x)
    total = x.new_zeros(())
    for rows in torch.split(x, _ROWS):  # [1024,N] at a time: a whole N x N does not fit for a large set
        total = total + (2 * t * (rows @ x.T - 1)).exp().sum()
    self_pairs = (2 * t * (x.square().sum(dim=1) - 1)).exp().sum()
    # Features of exactly zero length (a dead encoder) leave their pairs at cosine 0; they are still N^2 - N pairs.
    return math.log(float((total - self_pairs) / (images * (images - 1))))


def _warning(std: float, rank: float, limit: int) -> str | None:
    if std < COLLAPSED_STD:
        return (
            f"the embedding has collapsed: all images land on almost the same point (spread {std:.4f} of 1)."
            " Likely the learning rate is too high, or the loss no longer pushes images apart: lower --lr, then try a"
            " larger --batch-size"
        )
    if rank < COLLAPSED_RANK * math.sqrt(limit):
        return (
            f"the embedding is flat: it uses about {rank:.1f} of {limit} dimensions. Likely the learning rate is too"
            " high, the decorrelating term too weak, or there are very few different images: lower --lr, raise the"
            " weight of that term, or train longer"
        )
    return None
