"""The two directions in which many vectors differ most.

Source: Li et al. 2018, section 7: principal component analysis of a training's weights, of Zhao et al. 2022 also of its
gradients. Legend: S vectors of P entries.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wisp.errors import WispError


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
        return vectors.double() @ self.components.double().T


def principal_plane(vectors: Tensor) -> Plane:
    """The principal plane of [S,P], about their mean.

    By way of their inner products, [S,S] in float64: there are many more entries than vectors.

    Raises:
        WispError: the vectors span no plane: fewer than three, or all on one line.
    """
    centred = vectors.double() - vectors.double().mean(0)
    values, mixtures = torch.linalg.eigh(centred @ centred.T)
    values, mixtures = values.flip(0).clamp_min(0), mixtures.flip(1)
    if len(vectors) < 3 or not bool(values[1] > 1e-12 * values[0]):
        raise WispError(f"the record's {len(vectors)} vectors span no plane; diagnose a run of three epochs or more")
    components = (centred.T @ mixtures[:, :2] / values[:2].sqrt()).T
    largest = components.gather(1, components.abs().argmax(1, keepdim=True))
    first, second = (values[:2] / values.sum()).tolist()
    return Plane(components * largest.sign(), (first, second))
