"""Heads: features to embeddings."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from wisp.encoders.weights import in_short, mismatches, with_counts
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


def read_mlp(tensors: Mapping[str, Tensor], activation: Callable[[], nn.Module] = RELU) -> nn.Sequential:
    """The head whose `state_dict` is `tensors`, [B,D] -> [B,E], in training mode as any new network.

    An index with a matrix is a linear layer, one with running statistics a BatchNorm, and one left out between two of
    them an activation. BatchNorm's count of batches may be absent.

    Args:
        tensors: "0.weight", "0.bias", "1.running_mean" and so on.
        activation: makes one; names do not tell which it was.

    Raises:
        WispError: a name or a shape that belongs to no such head, or widths that do not follow on each other.
    """
    parts: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        place, _, kind = name.partition(".")
        if not place.isdecimal() or not kind:
            raise WispError(f"{name} is no tensor of a projection head; its layers are called 0, 1, ... in their order")
        parts.setdefault(int(place), {})[kind] = tensor
    layers: list[nn.Module] = []
    width: int | None = None
    with torch.random.fork_rng(devices=[]):  # random weights that nobody keeps
        for index in sorted(parts):
            if index == len(layers) + 1 and layers:
                layers.append(activation())
            if index != len(layers):
                raise WispError(f"a projection head cannot be rebuilt: what stands before its layer {index} is unknown")
            layer = _layer(index, parts[index])
            inputs, outputs = _widths(layer)
            if width not in (None, inputs):
                raise WispError(
                    f"a projection head cannot be rebuilt: layer {index} takes {inputs} values, not {width}"
                )
            layers.append(layer)
            width = outputs
    if width is None:
        raise WispError("a projection head without tensors cannot be rebuilt")
    head = nn.Sequential(*layers)
    expected = head.state_dict()
    found = with_counts(tensors, expected)
    if wrong := mismatches(expected, found):
        raise WispError(f"a projection head cannot be rebuilt: {in_short(wrong)}")
    head.load_state_dict(found)
    return head


def _layer(index: int, part: Mapping[str, Tensor]) -> nn.Linear | nn.BatchNorm1d:
    """The layer that has such tensors, with random weights."""
    weight, mean = part.get("weight"), part.get("running_mean")
    if mean is not None and mean.ndim == 1:
        return nn.BatchNorm1d(len(mean), affine=weight is not None)
    if mean is None and weight is not None and weight.ndim == 2:
        return nn.Linear(weight.shape[1], weight.shape[0], bias="bias" in part)
    shapes = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in part.items())
    raise WispError(
        f"a projection head cannot be rebuilt: layer {index} ({shapes}) is neither a linear layer nor BatchNorm"
    )


def _widths(layer: nn.Linear | nn.BatchNorm1d) -> tuple[int, int]:
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    return layer.num_features, layer.num_features
