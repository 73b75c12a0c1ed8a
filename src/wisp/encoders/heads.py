"""Heads: features to embeddings."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from torch import nn

from wisp.errors import WispError

RELU = partial(nn.ReLU, inplace=True)


def mlp(
    widths: Sequence[int],
    *,
    norm: bool = True,
    last: Literal["linear", "biased", "plain_norm"] = "linear",
    activation: Callable[[], nn.Module] = RELU,
) -> nn.Sequential:
    """A multi-layer perceptron, [B,widths[0]] -> [B,widths[-1]], an activation between its linear layers.

    Args:
        widths: of the input, the hidden layers and the output.
        norm: BatchNorm after every hidden linear layer, and no biases; biases and no BatchNorm otherwise.
        last: what ends it: the linear layer, that with a bias in any case, or BatchNorm without scale and shift.
        activation: makes one.

    Raises:
        WispError: a width below 1.
    """
    if min(widths) < 1:
        hidden, out = ", ".join(map(str, widths[1:-1])), widths[-1]
        raise WispError(f"a head with hidden {hidden} and out {out} cannot be built; all of its widths are 1 or more")
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths[:-1]):
        layers.append(nn.Linear(before, after, bias=not norm))
        layers += [nn.BatchNorm1d(after)] if norm else []
        layers.append(activation())
    layers.append(nn.Linear(widths[-2], widths[-1], bias=not norm or last == "biased"))
    if last == "plain_norm":
        layers.append(nn.BatchNorm1d(widths[-1], affine=False))
    return nn.Sequential(*layers)


def projector(features: int, hidden: int, out: int) -> nn.Sequential:
    """The three-layer projector of Barlow Twins, [B,D] -> [B,E]: BatchNorm and ReLU after the first two linear layers.

    Source: Zbontar et al. 2021, section 2.2; solo-learn's CIFAR setting is 2048-2048-2048 with biases on; the authors'
    code has none before a BatchNorm, where a bias has no effect.

    Raises:
        WispError: a width below 1.
    """
    return mlp([features, hidden, hidden, out])
