"""Distillation between rows of logits: the student's distribution over candidates follows the teacher's.

Kullback-Leibler divergences have the gradient of the cross-entropies that the papers print, and are 0 where both sides
agree. The teacher gets no gradient. Everything is computed in float32.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from wisp.losses.contrastive import ABSENT
from wisp.losses.precision import full_precision


@full_precision
def knowledge_distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """t^2 KL(softmax(teacher / t) || softmax(student / t)), mean over rows of [R,C], [R,C] (Hinton et al. 2015).

    t^2 keeps the size of the gradient whatever the temperature.
    """
    return towards(student, softened(teacher, temperature), temperature)


class Softened(NamedTuple):
    """Target of a distillation that several students share: softmax(teacher / t) [R,C], and its mean negative entropy.

    The divergence is their cross-entropy and this number: one pass over [R,C] for each student, where torch's own
    divergence takes four.
    """

    shares: Tensor
    certainty: Tensor


@torch.no_grad()
@full_precision
def softened(teacher: Tensor, temperature: float) -> Softened:
    """The target that logits [R,C] make at a temperature."""
    shares = (teacher / temperature).softmax(dim=1)
    return Softened(shares, torch.special.xlogy(shares, shares).sum(dim=1).mean())


@full_precision
def towards(student: Tensor, target: Softened, temperature: float) -> Tensor:
    """`knowledge_distillation` of logits [R,C] with a target that `softened` gave."""
    return temperature**2 * (F.cross_entropy(student / temperature, target.shares) + target.certainty)


@full_precision
def squared_logits(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the logits [R,C], [R,C], over rows and the candidates that take part."""
    there = teacher > ABSENT / 2
    return (student - teacher.detach()).square().where(there, 0.0).sum() / there.sum()


@full_precision
def adaptive_temperature(student: Tensor, teacher: Tensor) -> Tensor:
    """KL between rows of [R,C], each divided by its own standard deviation (Guo 2022, ATKD).

    The paper makes student and teacher equally sharp; sharpness grows with the standard deviation of the logits.
    """
    there = teacher > ABSENT / 2
    return knowledge_distillation(_spread_one(student, there), _spread_one(teacher.detach(), there), 1.0)


@full_precision
def decoupled(student: Tensor, teacher: Tensor, positives: Tensor, temperature: float, beta: float = 8.0) -> Tensor:
    """Target-class plus `beta` times non-target-class distillation (Zhao et al. 2022, DKD, Eq. 7 with alpha 1).

    Args:
        student: logits [R,C].
        teacher: logits [R,C].
        positives: int64 [R], the target class of each row.
        temperature: of both.
        beta: weight of the non-target classes; 8 in the paper on CIFAR.
    """
    own = F.one_hot(positives, student.shape[1]).bool()
    s, t = student / temperature, teacher.detach() / temperature
    binary = F.kl_div(_binary(s, own), _binary(t, own), reduction="batchmean", log_target=True)
    others = F.kl_div(
        s.masked_fill(own, ABSENT).log_softmax(dim=1), t.masked_fill(own, ABSENT).softmax(dim=1), reduction="batchmean"
    )
    return temperature**2 * (binary + beta * others)


def _binary(logits: Tensor, own: Tensor) -> Tensor:
    """Log-probabilities of the target and of all others together, [R,C] -> [R,2]."""
    whole = logits.logsumexp(dim=1)
    target = logits.masked_fill(~own, ABSENT).logsumexp(dim=1)
    others = logits.masked_fill(own, ABSENT).logsumexp(dim=1)
    return torch.stack([target - whole, others - whole], dim=1)


def _spread_one(logits: Tensor, there: Tensor) -> Tensor:
    """Logits over their standard deviation within each row; candidates that take no part stay away."""
    count = there.sum(dim=1, keepdim=True)
    mean = logits.where(there, 0.0).sum(dim=1, keepdim=True) / count
    variance = ((logits - mean).where(there, 0.0)).square().sum(dim=1, keepdim=True) / count
    return (logits / (variance + 1e-12).sqrt()).where(there, ABSENT)
