"""A first-in first-out memory of keys from earlier batches (He et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wisp.errors import WispError


class Queue(nn.Module):
    """The last K keys, on the device; slots that were never filled say so.

    Attributes:
        keys: [K,E], zeros where nothing was put yet.
        seen: int64 [], how many keys were ever put.
    """

    keys: Tensor
    seen: Tensor

    def __init__(self, size: int, width: int) -> None:
        """K slots for keys of E = `width` numbers."""
        super().__init__()
        self.register_buffer("keys", torch.zeros(size, width))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    @property
    def filled(self) -> Tensor:
        """Which slots hold a key, bool [K]."""
        return torch.arange(len(self.keys), device=self.keys.device) < self.seen

    @torch.no_grad()
    def put(self, keys: Tensor) -> None:
        """Replaces the oldest keys by those of the global batch, [N,E]; nothing waits for the device."""
        places = (self.seen + torch.arange(len(keys), device=self.keys.device)) % len(self.keys)
        self.keys.index_copy_(0, places, keys.to(self.keys.dtype))
        self.seen += len(keys)


def queue_size(asked: int | None, paper: int, *, images: int, step: int) -> int:
    """K: the one asked for, or the largest multiple of a step's keys up to min(paper's K, half of the images).

    A queue that holds a large part of the data holds the query's own image, as a negative.

    Args:
        asked: by the user, if at all.
        paper: K of the paper.
        images: training images.
        step: keys that a step puts in, one or two for each image of the global batch.

    Raises:
        WispError: an asked size that is smaller than a step's keys or no multiple of them.
    """
    if asked is None:
        return max(1, min(paper, images // 2) // step) * step
    if asked < step or asked % step:
        near = max(1, round(asked / step)) * step
        raise WispError(f"a queue of {asked} is no multiple of the {step} keys of a step; use --method.queue {near}")
    return asked


def overlong(size: int, *, images: int, step: int) -> list[str]:
    """A warning where a queue holds most of the data, and with it often the query's own image, as a negative.

    Args:
        size: K.
        images: training images.
        step: as in `queue_size`.
    """
    most = images // 2
    if size <= most:
        return []
    fitting = most // step * step
    remedy = f"--method.queue {fitting} or less" if fitting else "a smaller --batch-size"
    return [f"a queue of {size:,} keys holds more than half of the {images:,} training images; use {remedy}"]
