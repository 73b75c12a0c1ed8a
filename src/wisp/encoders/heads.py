"""Heads: features to embeddings."""

from __future__ import annotations

from torch import nn

from wisp.errors import WispError


def projector(features: int, hidden: int, out: int) -> nn.Sequential:
    """The three-layer projector of Barlow Twins, [B,D] -> [B,E]: BatchNorm and ReLU after the first two linear layers.

    Source: Zbontar et al. 2021, section 2.2; solo-learn's CIFAR setting is 2048-2048-2048 with biases on; the authors'
    code has none before a BatchNorm, where a bias has no effect.

    Raises:
        WispError: a width below 1.
    """
    if min(hidden, out) < 1:
        raise WispError(f"a projector of widths {hidden} and {out} cannot be built; hidden and out are 1 or more")
    return nn.Sequential(
        nn.Linear(features, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, out, bias=False),
    )
