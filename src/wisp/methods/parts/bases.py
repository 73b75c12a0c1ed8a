"""Methods that other methods build on: what a two-view loss offers them, and how they take it.

Source: ours. SlimCLR (Zhao et al. 2022) puts narrow networks into a contrast; SACL (Meng et al. 2023) puts a host and
its slim network into the two branches of a loss, which the paper does for Barlow Twins only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from wisp.encoders.slow import SlowCopy
from wisp.errors import WispError
from wisp.losses.decorrelation import standardize
from wisp.losses.global_batch import gather

Embed = Callable[[Tensor], Tensor]
"""A network and its heads, [B,3,H,W] -> [B,E]."""


class Networked(Protocol):
    """A method that trains one network."""

    network: nn.Sequential
    """Encoder [B,3,H,W] -> [B,D] and heads."""


class TwoViews(Networked, Protocol):
    """A method whose loss takes its network as an argument: one `Embed` for each view."""

    synchronised: bool

    def targets(self, views: tuple[Tensor, ...], progress: float) -> list[Tensor]:
        """What each view's embedding should find, without a gradient; empty where both sides are trained."""

    def embeddings(self, embeds: Sequence[Embed], views: tuple[Tensor, ...]) -> list[Tensor]:
        """Each view through the `Embed` in its place, in the form that `terms` takes: [B,E], or [N,E]."""

    def terms(self, z: Sequence[Tensor], targets: list[Tensor]) -> dict[str, tuple[float, Tensor]]:
        """Weight and value of each term over the global batch, of `embeddings` and the `targets` in the same order."""

    def standard(self, z: Tensor) -> Tensor:
        """One of the `embeddings` over the global batch and standardised, [N,E]: what correlations are taken of."""

    def worth(self) -> float:
        """Weight of (1 - C)^2 that pulls a dimension's correlation C as this loss does, where views are unrelated.

        Half of the loss's slope by the agreement of two views, at none, for each of the E dimensions.
        """

    def redundancy(self) -> float:
        """What the squared correlation of two dimensions weighs, beside (1 - C)^2 of one dimension at `worth`.

        So a distillation weighs what redundancy weighs in the loss itself.
        """

    def chosen(self) -> dict[str, float]:
        """As `Method.chosen`."""

    def warnings(self) -> list[str]:
        """As `Method.warnings`."""

    def after_step(self, progress: float) -> None:
        """As `Method.after_step`."""


def directions(unit: Tensor) -> Tensor:
    """Unit rows [B,E] over the global batch and standardised, [N,E].

    A dimension of a unit vector has about 1/E of its length: back to 1, or the number that `standardize` adds to the
    variance would hide the correlations of embeddings that have not spread out yet.
    """
    return standardize(gather(unit) * unit.shape[1] ** 0.5)


def weighted(terms: dict[str, tuple[float, Tensor]]) -> dict[str, Tensor]:
    """The weighted terms that a step returns."""
    return {name: weight * term for name, (weight, term) in terms.items()}


def settings_for(kind: type[Any], name: str, asked: Mapping[str, object], role: str) -> Any:
    """The base's settings with what is asked of them; None leaves a setting at the base's default.

    Args:
        kind: the base's `Config`.
        name: of the base.
        asked: options of the method that builds on it.
        role: what the user calls the base there.

    Raises:
        WispError: an option is asked for that the base does not have.
    """
    given = {option: value for option, value in asked.items() if value is not None}
    known = {field.name for field in dataclasses.fields(kind)}
    for option in given:
        if option not in known:
            raise WispError(f"{name} has no {option}; leave it out, or use another {role}")
    return kind(**given)


def lend(base: Networked, network: nn.Sequential) -> None:
    """Puts `network` in the place of the base's own, and starts the base's slow copy, if any, from it.

    The base refers to it and does not own it: whoever lends it registers, saves and counts it once. So it goes past
    `nn.Module`, that would make it the base's child.
    """
    assert isinstance(base, nn.Module)
    del base.network
    vars(base)["network"] = network
    if isinstance(slow := getattr(base, "slow", None), SlowCopy):
        assert isinstance(slow.network, nn.Sequential)
        base.slow = SlowCopy(network[: len(slow.network)])
