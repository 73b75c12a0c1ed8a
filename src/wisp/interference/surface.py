"""The way of a training through weight space, and the error around it.

Source: Li et al. 2018, section 7, as Zhao et al. 2022 draw it in Fig. 5: the plane of the two principal components of
the differences between earlier weights and the last ones, which are its origin; filters and matrices move, scales,
shifts and biases stay the last ones'. The error is that of a kNN classifier, for every method alike (the paper asks
the classifier of a supervised network). At weights that no training has seen running statistics mean nothing: BatchNorm
normalises by the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wisp.encoders.frozen import frozen_pass
from wisp.evaluate.features import Features, evaluating
from wisp.evaluate.knn import knn
from wisp.interference.principal import Plane, principal_plane

K = 20
MARGIN = 0.15
"""How far the surface goes beyond the trajectory, as a share of its extent."""
_BATCH = 500

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Trajectory:
    """The weights of a training in the plane of their own principal components.

    Attributes:
        plane: of the flat weights.
        places: [T,2], the last one at the origin.
    """

    plane: Plane
    places: Tensor

    @property
    def offset(self) -> float:
        """Largest distance from the last weights along the second component; section 4.4 of Zhao et al."""
        return float(self.places[:, 1].abs().max())


def trajectory_of(weights: Sequence[Weights]) -> Trajectory | None:
    """The way of a network's filters and matrices; None where they span no plane.

    Args:
        weights: parameters by name, by rising step.
    """
    differences = torch.stack([_flat(each) for each in weights])
    differences -= differences[-1].clone()
    plane = principal_plane(differences)
    return None if plane is None else Trajectory(plane, plane.places(differences))


@dataclass(frozen=True)
class Surface:
    """Error in percent on a grid of the plane.

    Attributes:
        x: places along the first component.
        y: along the second.
        error: a row for every y, a column for every x.
    """

    x: list[float]
    y: list[float]
    error: list[list[float]]


def surface_around(
    trajectory: Trajectory,
    last: Weights,
    *,
    encoder: nn.Module,
    error: Callable[[nn.Module], float],
    points: int,
    progress: Callable[[int, int], None] | None = None,
) -> Surface:
    """The error wherever the training came near.

    Args:
        trajectory: of `trajectory_of`.
        last: the weights at its origin.
        encoder: takes the weights, by these names; left at the last ones.
        error: of an encoder, in percent.
        points: along each side of the grid.
        progress: hears (done, all).
    """
    low, high = trajectory.places.min(0).values, trajectory.places.max(0).values
    air = MARGIN * (high - low)
    ends = torch.stack([low - air, high + air], dim=1).tolist()
    x, y = (torch.linspace(first, end, points).tolist() for first, end in ends)
    moving = [name for name, tensor in last.items() if tensor.ndim > 1]
    sizes = [last[name].numel() for name in moving]
    state = dict(encoder.named_parameters())
    rows: list[list[float]] = []
    try:
        for b in y:
            rows.append([])
            for a in x:
                one, other = trajectory.plane.components
                shift = (a * one + b * other).to(last[moving[0]]).split(sizes)
                with torch.no_grad():
                    for name, part in zip(moving, shift, strict=True):
                        state[name].copy_(last[name] + part.view(last[name].shape))
                rows[-1].append(error(encoder))
                if progress is not None:
                    progress(len(rows) * points - points + len(rows[-1]), points * points)
    finally:
        with torch.no_grad():
            for name in moving:
                state[name].copy_(last[name])
    return Surface(x, y, rows)


def knn_error(encoder: nn.Module, known: Tensor, labels: Tensor, asked: Tensor, asked_labels: Tensor) -> float:
    """Percent of images whose neighbours vote for another class; BatchNorm normalises by the batch.

    Args:
        encoder: [B,3,S,S] -> [B,D], on the images' device.
        known: images [N,3,S,S] in which neighbours are looked for.
        labels: [N].
        asked: images [M,3,S,S].
        asked_labels: [M].
    """
    with evaluating(encoder):
        for module in encoder.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.train()
        train, test = (torch.cat([frozen_pass(encoder, part) for part in _even(x)]).float() for x in (known, asked))
    if not bool(torch.isfinite(train).all() and torch.isfinite(test).all()):
        return 100.0
    accuracy = knn(Features(train, labels, test, asked_labels), ks=(K,))
    return 100.0 - next(iter(accuracy.values()))


def _even(images: Tensor) -> Sequence[Tensor]:
    """Batches of nearly the same size: their statistics have to compare."""
    return images.tensor_split(-(-len(images) // _BATCH))


def _flat(weights: Weights) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in weights.values() if tensor.ndim > 1])
