"""A row of `metrics.jsonl` per step, without waiting for the device at every step."""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor

from wisp.errors import WispError
from wisp.train.journal import Journal

_AT_ONCE = {"cpu": 1}
_AT_ONCE_ELSEWHERE = 20
"""Losses are read from the device so many steps at a time; on an accelerator every reading waits for it."""


class Screen(Protocol):
    """What the loop tells the person who watches."""

    def on_step(self, step: int, loss: float, images_per_s: float, data_wait: float) -> None:
        """After rows were written; `data_wait` is a fraction of the step's time."""

    def on_epoch(self, row: dict[str, Any]) -> None:
        """After an epoch's row was written."""


class Rows:
    """Step rows that wait on the device until it is worth reading them.

    Args:
        batch_size: global batch.
        journal: receives the rows; None on every process but the first.
        screen: hears of the newest one.
        device: where the losses are.

    Attributes:
        limit: steps whose losses are read at a time.
        loss: of the last row that was read.
    """

    def __init__(self, batch_size: int, journal: Journal | None, screen: Screen, *, device: torch.device) -> None:
        self._batch_size, self._journal, self._screen = batch_size, journal, screen
        self.limit = _AT_ONCE.get(device.type, _AT_ONCE_ELSEWHERE)
        self.loss = math.nan
        self._pending: list[tuple[dict[str, Any], list[str], Tensor]] = []

    def add(self, step: int, epoch: int, rate: float, terms: dict[str, Tensor], seconds: float, waited: float) -> None:
        """Takes the terms of a step, wherever they are, with its time and the part of it that was spent on data."""
        row = {"kind": "step", "step": step, "epoch": epoch, "lr": rate, "seconds": seconds, "waited": waited}
        self._pending.append((row, list(terms), torch.stack([term.detach().float() for term in terms.values()])))
        if len(self._pending) >= self.limit:
            self.flush()

    def flush(self) -> None:
        """Reads what waits, and writes it.

        Raises:
            WispError: a term is not finite; the term and the step are named.
        """
        if not self._pending:
            return
        values = torch.stack([terms for *_, terms in self._pending]).tolist()
        seconds = sum(row["seconds"] for row, *_ in self._pending)
        waited = sum(row.pop("waited") for row, *_ in self._pending)
        for (row, names, _), numbers in zip(self._pending, values, strict=True):
            for name, number in zip(names, numbers, strict=True):
                if not math.isfinite(number):
                    raise WispError(
                        f"loss term {name} is {number} at step {row['step']}; lower --lr or use --precision fp32 "
                        "(the last checkpoint stays)"
                    )
            share = seconds / len(self._pending)
            row["seconds"] = share
            row |= {
                "loss": sum(numbers),
                "terms": dict(zip(names, numbers, strict=True)),
                "images_per_s": self._batch_size / share,
                "data_wait": waited / seconds,
            }
            if self._journal is not None:
                self._journal.write(row)
        self.loss = row["loss"]
        self._screen.on_step(row["step"], row["loss"], row["images_per_s"], row["data_wait"])
        self._pending.clear()
