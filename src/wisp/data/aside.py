"""Views on a CUDA stream of their own, so that making them never waits for the training step."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_AHEAD = 2  # training steps that may be queued on the device


class Aside:
    """Takes batches from an iterator that makes them on the device.

    Copies to the device wait for everything queued on their stream. On the training's stream that would be the step in
    progress, whose time would then count as waiting for data; on a stream of its own it is only the views.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream: Any = torch.cuda.Stream(device)
        self._device = device
        self._steps: deque[Any] = deque()

    def next(self, batches: Iterator[Any]) -> Any:
        """The next batch (a tuple of tensors and tuples of them), ready for the current stream; None after the last."""
        here: Any = torch.cuda.current_stream(self._device)
        self._steps.append(here.record_event())
        if len(self._steps) > _AHEAD:  # views that are still to be used take memory: do not run far ahead
            self._steps.popleft().synchronize()
        with torch.cuda.stream(self._stream):
            batch = next(batches, None)
        here.wait_stream(self._stream)
        for tensor in _tensors(batch):
            tensor.record_stream(here)  # its memory may be reused only when the training is done with it
        return batch


def _tensors(found: Any) -> Iterator[Tensor]:
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, tuple):
        for part in found:
            yield from _tensors(part)
