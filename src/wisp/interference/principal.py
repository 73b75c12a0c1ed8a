"""The two directions in which many vectors differ most.

Source: Li et al. 2018, section 7: principal component analysis of a training's weights, of Zhao et al. 2022 also of its
gradients. Legend: S vectors of P entries.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_BLOCK = 2**18
"""Entries of every vector that are looked at together, in float64."""


@dataclass(frozen=True)
class Plane:
    """The first two principal components.

    Attributes:
        components: unit rows [2,P], the larger first; each with its largest entry positive, for the sign is arbitrary.
        explained: share of the variance along each, in [0, 1].
    """

    components: Tensor
    explained: tuple[float, float]

    def places(self, vectors: Tensor) -> Tensor:
        """Coordinates of vectors [S,P] in the plane: [S,2] float64."""
        pairs = zip(vectors.split(_BLOCK, 1), self.components.split(_BLOCK, 1), strict=True)
        return torch.stack([part.double() @ axes.double().T for part, axes in pairs]).sum(0)


def principal_plane(vectors: Tensor) -> Plane | None:
    """The principal plane of [S,P], about their mean; None where they span none: fewer than three, or all on a line.

    By way of their inner products, [S,S] in float64, some entries at a time: there are many more entries than vectors.
    """
    blocks = vectors.split(_BLOCK, 1)
    values, mixtures = torch.linalg.eigh(torch.stack([c @ c.T for c in map(_centred, blocks)]).sum(0))
    values, mixtures = values.flip(0).clamp_min(0), mixtures.flip(1)
    if len(vectors) < 3 or not bool(values[1] > 1e-12 * values[0]):
        return None
    axes = mixtures[:, :2] / values[:2].sqrt()
    components = torch.cat([(_centred(block).T @ axes).T for block in blocks], dim=1)
    largest = components.gather(1, components.abs().argmax(1, keepdim=True))
    first, second = (values[:2] / values.sum()).tolist()
    return Plane(components * largest.sign(), (first, second))


def _centred(block: Tensor) -> Tensor:
    exact = block.double()
    return exact - exact.mean(0)
