"""Twins: files in another form that must compute what the encoder computes, or are not written.

A twin is a service beside `encoder.safetensors`. Whatever goes wrong with it is a `WispError`, so that who asked for it
can go on without it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from wisp.errors import WispError

USE_WEIGHTS = "use encoder.safetensors"
"""The way out of every failure of a twin."""


def compare(
    name: str, network: nn.Module, twin: Callable[[Tensor], Tensor], images: Tensor, tolerance: float
) -> dict[str, float]:
    """Runs both on all images at once and on the first alone.

    Args:
        name: of the twin, for messages.
        network: maps [B,3,H,W] to [B,D].
        twin: should do the same.
        images: [B,3,H,W].
        tolerance: times max(1, max|y|) over all outputs y.

    Returns:
        `max_difference` over all outputs, and the `tolerance` that it met.

    Raises:
        WispError: they differ.
    """
    difference, largest = 0.0, 1.0
    for batch in (images, images[:1]):
        with torch.inference_mode():
            wanted, got = network(batch), twin(batch)
        if got.shape != wanted.shape:
            raise WispError(
                f"no {name} was written: it gives {list(got.shape)}, the encoder {list(wanted.shape)}; {USE_WEIGHTS}"
            )
        # torch's max keeps a NaN, Python's would drop it
        difference = float(torch.stack([torch.tensor(difference), (wanted - got).abs().max()]).max())
        largest = max(largest, float(wanted.abs().max()))
    if not difference <= tolerance * largest:  # also when it is NaN
        raise WispError(
            f"no {name} was written: it differs from the encoder by {difference:.1e}, more than"
            f" {tolerance * largest:.1e}; {USE_WEIGHTS}"
        )
    return {"max_difference": difference, "tolerance": tolerance * largest}
