"""Tensors into a network, all of them or none: what does not fit is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from wisp.errors import WispError

_SHOWN = 4


def load_strictly(network: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Loads `tensors` if all names and shapes fit, and changes nothing otherwise.

    Raises:
        WispError: names what is missing, unexpected or of another shape, and `source`.
    """
    wrong = mismatches(network.state_dict(), tensors)
    if wrong:
        raise WispError(f"{source} does not fit its encoder: {in_short(wrong)}; nothing was loaded")
    network.load_state_dict(tensors)


def mismatches(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """One phrase for every tensor that is missing, unexpected or of another shape; empty if all fit."""
    missing = [f"{name} is missing" for name in expected if name not in found]
    unexpected = [f"{name} is unexpected" for name in found if name not in expected]
    shapes = [
        f"{name} is {list(found[name].shape)}, not {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]
    return missing + unexpected + shapes


def with_counts(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`tensors`, and BatchNorm's counts of batches from `expected` where they are missing: old files have none."""
    counts = {name: count for name, count in expected.items() if name.endswith("num_batches_tracked")}
    return counts | dict(tensors)


def in_short(wrong: Sequence[str]) -> str:
    """The first of such phrases, and how many more there are."""
    more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return "; ".join(wrong[:_SHOWN]) + more
