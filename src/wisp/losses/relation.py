"""Distillation of what a teacher says beyond single embeddings: where it looks, how images relate.

Each function is the mathematics of one batch. A relation between images needs the whole batch: gather the embeddings of
all processes first. A mean over images or rows stands for itself: average it. The teacher gets no gradient, and
everything is computed in float32; under autocast `queue_distillation` rounds the factors of its products.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from wisp.losses.contrastive import ABSENT
from wisp.losses.logits import softened, towards
from wisp.losses.precision import full_precision, rounding_factors

ANGLES = 2**24
"""Angles, or entries of their sides, that are held at once, 64 MiB in float32: those of 256 images."""
SIMILARITIES = 2**21
"""Similarities with a queue that are held at once, 8 MiB in float32: fewer make small products, more leave caches."""
NEGLIGIBLE = -64.0
"""Logits further below the largest of their row so far count as if they were here. What exp makes of this is lost in
the sum even in float64, and it is no subnormal number, with which a CPU computes many times slower."""


@full_precision
def attention(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Mean squared difference between the attention maps of [B,C,H,W], [B,C',H',W'] (Zagoruyko and Komodakis 2017).

    An attention map is the channel mean of the squared activations, as a vector of length 1 (Eq. 2). The larger feature
    map is first averaged to the smaller one's height and width, as in RepDistiller; the paper's pairs have equal sizes.
    The mean over images and places is RepDistiller's, which weighs it with 1000 and adds it up over the stages. A map
    of one pixel says nothing: its loss is 0.
    """
    size = (min(student_map.shape[2], teacher_map.shape[2]), min(student_map.shape[3], teacher_map.shape[3]))
    with torch.no_grad():
        target = _attention_map(teacher_map, size)
    return (_attention_map(student_map, size) - target).square().mean()


def _attention_map(features: Tensor, size: tuple[int, int]) -> Tensor:
    """[B,C,H,W] -> unit rows [B,size[0]*size[1]]."""
    if features.shape[2:] != size:
        features = F.adaptive_avg_pool2d(features, size)
    return F.normalize(features.square().mean(dim=1).flatten(1), dim=1)


@full_precision
def rkd_distance(zs: Tensor, zt: Tensor) -> Tensor:
    """Smooth-L1 between relative pairwise distances of [N,E], [N,E'] (Park et al. 2019, Eq. 5-7): a scalar.

    Distances are divided by the mean over the pairs that are apart. The mean is over all N^2 pairs, the N of an image
    with itself included, as in the released code and in RepDistiller (weight 25; in DisCo 1); the paper sums over
    different images. Images with one embedding get no gradient from their pair.
    """
    with torch.no_grad():
        target = _relative_distances(zt)
    return F.smooth_l1_loss(_relative_distances(zs), target)


def _relative_distances(z: Tensor) -> Tensor:
    """[N,E] -> [N,N], mean 1 over the pairs that are apart."""
    # From differences and not from products: exact for near neighbours, and without a gradient at 0.
    distances = torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist")
    apart = (distances > 0).sum()
    mean = distances.sum() / apart.clamp(min=1)
    return distances / mean.where(apart > 0, 1.0)


@full_precision
def rkd_angle(zs: Tensor, zt: Tensor) -> Tensor:
    """Smooth-L1 between the cosines of all angles in triplets of [N,E], [N,E'] (Park et al. 2019, Eq. 8-10): a scalar.

    The mean is over all N^3 triplets as in the released code and in RepDistiller (weight 50; in DisCo 1); the paper
    sums over different images. An angle with a side of length 0 has cosine 0 and no gradient. Takes N^3 (E + E')
    multiply-adds; memory stays bounded, since beyond `ANGLES` they are computed in parts and again in the backward
    pass.
    """
    n = len(zs)
    vertices = max(1, ANGLES // (n * max(n, zs.shape[1], zt.shape[1])))
    if vertices >= n:
        return _angle_gaps(zs, zt, 0, n) / n**3
    parts = [
        checkpoint(_angle_gaps, zs, zt, first, first + vertices, use_reentrant=False, preserve_rng_state=False)
        for first in range(0, n, vertices)
    ]
    return torch.stack(parts).sum() / n**3


def _angle_gaps(zs: Tensor, zt: Tensor, first: int, last: int) -> Tensor:
    """Sum of the smooth-L1 of all angles whose vertex is one of the images `first` to `last`."""
    with torch.no_grad():
        target = _cosines_at(zt, first, last)
    return F.smooth_l1_loss(_cosines_at(zs, first, last), target, reduction="sum")


def _cosines_at(z: Tensor, first: int, last: int) -> Tensor:
    """[N,E] -> [V,N,N]: cosines of the angles at the vertices `first` to `last`."""
    sides = z - z[first:last, None]
    squared = sides.square().sum(dim=2, keepdim=True)
    # Closer than the embeddings are rounded is together: 1 / length would make an explosion of that noise.
    rounding = (4 * torch.finfo(z.dtype).eps) ** 2 * z.square().sum(dim=1).mean()
    apart = squared > rounding
    directions = sides * squared.where(apart, 1.0).rsqrt() * apart
    return directions @ directions.mT


@full_precision
def similarity_distillation(
    student_sims: Tensor, teacher_sims: Tensor, student_temperature: float, teacher_temperature: float
) -> Tensor:
    """KL(softmax(teacher / t_t) || softmax(student / t_s)), mean over the rows of similarities [R,C], [R,C].

    Fang et al. 2021 (SEED, Eq. 5, 6) print the cross-entropy, with temperatures 0.2 and 0.01; Koohpayegani et al. 2020
    (CompRess) the divergence, with one temperature, 0.04. The gradient is the same, and 0 is agreement. There is no
    factor t^2, unlike in `knowledge_distillation`. Candidates at `ABSENT` take no part.
    """
    return towards(student_sims / student_temperature, softened(teacher_sims, teacher_temperature), 1.0)


@rounding_factors
@full_precision
def queue_distillation(
    student: Tensor,
    teacher: Tensor,
    queue: Tensor,
    filled: Tensor,
    student_temperature: float,
    teacher_temperature: float,
) -> Tensor:
    """`similarity_distillation` of both against the teacher's own embedding and a queue, in blocks.

    At most `SIMILARITIES` are held, or B if they are more, and no softmax is (docs/performance.md). With
    s = student / t_s and t = teacher / t_t, Z the sums that normalise both softmaxes, and m_t the mean candidate under
    the teacher's, it is t m_t - log Z_t - (s m_t - log Z_s); the gradient of log Z_s is the mean candidate under the
    student's. Under autocast the products with the queue may round their factors as the networks do: they are most of
    the loss's time. At SEED's temperatures that moves the gradient by a hundredth at most; where both are equal and
    small and the student agrees with its teacher, what is left of the gradient is noise.

    Args:
        student: unit rows [B,E].
        teacher: unit rows [B,E] of the same images; they are candidate 0, each of its own row.
        queue: unit rows [K,E] of other images, K 1 or more, zeros where there is none.
        filled: bool [K], which slots hold a key; the others do not take part.
        student_temperature: t_s.
        teacher_temperature: t_t.
    """
    own, absent = teacher.detach(), torch.zeros_like(queue[:, 0]).masked_fill_(~filled, ABSENT)
    s, t = student / student_temperature, own / teacher_temperature
    normaliser_t, mean_t = _Normaliser.apply(t, own, queue, absent / teacher_temperature)
    normaliser_s, _ = _Normaliser.apply(s, own, queue, absent / student_temperature)
    # What a difference loses is the rounding of logits of about 1/t, in the value and not in the gradient.
    certainty: Tensor = (t * mean_t).sum(dim=1) - normaliser_t
    crossed: Tensor = (s * mean_t).sum(dim=1) - normaliser_s
    return (certainty - crossed).mean()


class _Normaliser(torch.autograd.Function):
    """log Z [B] and the mean candidate [B,E] of rows [B,E] with their own candidates [B,E] and shared ones [K,E].

    `shift` [K] is added to the logits of the shared ones. First derivatives only.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, own: Tensor, shared: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        size = max(1, SIMILARITIES // len(rows))
        held = shared.new_empty(len(rows) * min(size, len(shared)))
        # The sums so far are relative to each row's largest logit so far; at first its own candidate's.
        most = (rows * own).sum(dim=1, keepdim=True)
        z, mean = torch.ones_like(most), own.clone()
        for candidates, added in zip(shared.split(size), shift.split(size), strict=True):
            place = held[: len(rows) * len(candidates)].view(len(rows), -1)
            logits = torch.addmm(added, rows, candidates.T, out=place)
            before, most = most, torch.maximum(most, logits.amax(dim=1, keepdim=True))
            shares = logits.sub_(most).clamp_(min=NEGLIGIBLE).exp_()
            kept = (before - most).clamp_(min=NEGLIGIBLE).exp_()
            z.mul_(kept).add_(shares.sum(dim=1, keepdim=True))
            mean.mul_(kept).addmm_(shares, candidates)
        mean.div_(z)
        ctx.save_for_backward(mean)
        ctx.mark_non_differentiable(mean)
        return (z.log_() + most)[:, 0], mean

    @staticmethod
    def backward(ctx: Any, of_log: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        if torch.is_grad_enabled():  # the mean, which is the gradient, is a number here and no function of the rows
            raise RuntimeError("queue_distillation has no second derivative; use similarity_distillation")
        (mean,) = ctx.saved_tensors
        return of_log[:, None] * mean, None, None, None
