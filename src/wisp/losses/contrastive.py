"""Contrastive losses: tell the other view of an image apart from other images.

A contrast is a matrix of cosine similarities, one row a query and one column a candidate, and the column of each row's
positive. MoCo, SimCLR and MoCo-v3 differ in what the rows and columns are; the loss is the same. Everything is computed
in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from wisp.losses.precision import full_precision

ABSENT = -1e4
"""Stands for the similarity of a candidate that does not take part: a softmax gives it exactly 0, and unlike minus
infinity it leaves a product with 0 at 0."""


class Contrast(NamedTuple):
    """Cosines [R,C] of R queries with C candidates, and int64 [R] the column of each query's positive."""

    cosines: Tensor
    positives: Tensor


@full_precision
def unit(z: Tensor) -> Tensor:
    """Rows of length 1: [...,E] -> [...,E]."""
    return F.normalize(z, dim=-1)


@full_precision
def cosines(a: Tensor, b: Tensor, shift: Tensor | None = None) -> Tensor:
    """Cosine similarities of unit rows, [R,E] and [C,E] -> [R,C]; `shift` [C] is added to the columns."""
    return F.linear(a, b, shift)


@full_precision
def info_nce(similarities: Tensor, positives: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy of the positives among the candidates (van den Oord et al. 2018; He et al. 2020, Eq. 1).

    Args:
        similarities: cosines [R,C].
        positives: int64 [R].
        temperature: that divides the cosines.
    """
    return F.cross_entropy(similarities / temperature, positives)


@full_precision
def info_nce_of_many(similarities: Tensor, positives: Tensor, temperature: float) -> Tensor:
    """Mean over the rows, and over each row's positives, of their cross-entropies (Khosla et al. 2020, Eq. 2).

    Args:
        similarities: cosines [R,C].
        positives: int64 [R,P], different columns, the first of which takes part; of the others, those at `ABSENT` do
            not count.
        temperature: that divides the cosines.
    """
    logits = similarities / temperature
    chosen = similarities.gather(1, positives)
    part = chosen > ABSENT / 2
    shares = chosen / temperature - logits.logsumexp(dim=1, keepdim=True)
    return -((shares * part).sum(dim=1) / part.sum(dim=1)).mean()


def against_queue(queries: Tensor, keys: Tensor, queue: Tensor, filled: Tensor) -> Contrast:
    """Each query against its own key (column 0) and the filled part of a queue (He et al. 2020).

    Args:
        queries: unit rows [B,E].
        keys: unit rows [B,E], of the same images.
        queue: unit rows [K,E] of other images, zeros where there is none.
        filled: bool [K], which slots hold a key; the others do not take part.
    """
    positives = (queries * keys).sum(1, keepdim=True)
    rows = torch.cat([positives, to_queue(queries, queue, filled)], dim=1)
    return Contrast(rows, torch.zeros(len(rows), dtype=torch.int64, device=rows.device))


def to_queue(queries: Tensor, queue: Tensor, filled: Tensor) -> Tensor:
    """Cosines [B,K] of each query with the keys of a queue, `ABSENT` in slots without one; as `against_queue`."""
    # Added by the product itself: a mask over [B,K] would be two more passes, and two for its gradient.
    shift = torch.zeros_like(queue[:, 0]).masked_fill_(~filled, ABSENT)
    return cosines(queries, queue, shift)


@full_precision
def info_nce_in_turn(
    queries: Tensor, keys: Sequence[Tensor], queue: Tensor, filled: Tensor, temperature: float
) -> list[Tensor]:
    """As `info_nce` of `against_queue` with one set of keys after the other, for one product with the queue.

    Args:
        queries: unit rows [B,E].
        keys: unit rows [B,E] each; the others do not take part while one is the positive.
        queue: unit rows [K,E] of other images, zeros where there is none.
        filled: bool [K], which slots hold a key; the others do not take part.
        temperature: that divides the cosines.

    Returns:
        A mean over the queries for each of `keys`.
    """
    shift = torch.zeros_like(queue[:, 0]).masked_fill_(~filled, ABSENT)
    others = torch.logsumexp(cosines(queries, queue, shift) / temperature, dim=1)
    own = [(queries * each).sum(1) / temperature for each in keys]
    return [F.softplus(others - each).mean() for each in own]


def in_batch(queries: Tensor, keys: Tensor, first: int) -> Contrast:
    """Each query against the keys of the whole batch (Chen, Xie and He 2021, Algorithm 1).

    Args:
        queries: unit rows [B,E] of this process.
        keys: unit rows [N,E] of the global batch.
        first: position of this process's first image in the global batch.
    """
    return Contrast(cosines(queries, keys), torch.arange(first, first + len(queries), device=queries.device))


def between_views(za: Tensor, zb: Tensor, all_a: Tensor, all_b: Tensor, first: int) -> Contrast:
    """Each embedding of two views against all 2N - 1 others (Chen et al. 2020, Eq. 1 and Algorithm 1, NT-Xent).

    Args:
        za: unit rows [B,E] of the first view, of this process.
        zb: of the second.
        all_a: [N,E] of the global batch.
        all_b: likewise.
        first: position of this process's first image in the global batch.

    Returns:
        2B rows and 2N columns, of which a row's own takes no part.
    """
    rows = cosines(torch.cat([za, zb]), torch.cat([all_a, all_b]))
    size, n = len(za), len(all_a)
    own = torch.arange(first, first + size, device=rows.device)
    itself = torch.cat([own, own + n])
    rows = rows.scatter(1, itself[:, None], ABSENT)
    return Contrast(rows, torch.cat([own + n, own]))


def between_networks(zs: Tensor, zt: Tensor, all_s: Tensor, all_t: Tensor, first: int) -> Contrast:
    """Each image's embeddings by two networks against those pairs of one network's with the other's that share one.

    That is Eq. 1 of Farhat and Chen 2023, the positive among the candidates once: two embeddings of one network are no
    pair, unlike in `between_views`.

    Args:
        zs: unit rows [B,E] of one network, of this process.
        zt: of the other.
        all_s: [N,E] of the global batch.
        all_t: likewise.
        first: position of this process's first image in the global batch.

    Returns:
        B rows and 2N columns, of which the second copy of a row's positive takes no part.
    """
    there, back = in_batch(zs, all_t, first), in_batch(zt, all_s, first)
    others = back.cosines.scatter(1, back.positives[:, None], ABSENT)
    return Contrast(torch.cat([there.cosines, others], dim=1), there.positives)
