"""Ctrl-C and SIGTERM: finish the step, save, say how to go on."""

from __future__ import annotations

import signal
import time
from types import FrameType, TracebackType
from typing import Any

_ONE_SIGNAL = 1.0


class Interrupted(Exception):
    """The training stopped at a user's wish, after a complete step and a checkpoint."""

    def __init__(self, step: int, steps: int) -> None:
        super().__init__(f"interrupted and saved after step {step} of {steps}; the same command goes on from there")


class StopRequest:
    """While active, the first SIGINT or SIGTERM sets `asked`; a second one raises KeyboardInterrupt at once.

    Signals within one second count as one: torchrun and SLURM repeat the one that the terminal has sent already.
    """

    def __init__(self) -> None:
        self.asked = False
        self._since = 0.0
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        """Installs the handlers."""
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[number] = signal.signal(number, self._handle)
            except ValueError:  # not the main thread: the caller's handlers stay
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Puts the former handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.asked:
            self.asked, self._since = True, time.monotonic()
        elif time.monotonic() - self._since > _ONE_SIGNAL:
            raise KeyboardInterrupt
