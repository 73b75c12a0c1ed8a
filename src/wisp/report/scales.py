"""Axes: data coordinates to pixels, and where the ticks go."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from operator import itemgetter

from wisp.report.formats import THIN, percent, short_si, tick

_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
_COARSE = {"s": (1, 3, 10, 30), "min": (1, 3, 10, 30), "h": (1, 3, 10), "d": (1, 3, 10, 30, 100)}
_FINE = {"s": (1, 2, 3, 5, 10, 20, 30, 45), "min": (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50)}
_FINE |= {"h": (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18), "d": (1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 100)}
_TIMES = [
    [(float(_UNITS[unit] * times), f"{times}{THIN}{unit}") for unit, each in marks.items() for times in each]
    for marks in (_COARSE, _FINE)
]


@dataclass(frozen=True)
class Scale:
    """One axis: `low`..`high` (data) onto `start`..`end` (pixels), linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    as_percent: bool = False
    whole: bool = False
    """Ticks at whole numbers only: there is no step 2.5."""
    as_time: bool = False
    """Values are seconds, and ticks of a logarithmic axis stand at `10 s`, `1 min`, `1 h`."""

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        low, high = self._place(self.low), self._place(self.high)
        return self.start + (self._place(value) - low) / (high - low) * (self.end - self.start)

    def _place(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def _times(self, most: int) -> list[tuple[float, str]]:
        """What clocks and calendars know, inside the axis; else parts of the unit in which the axis begins."""
        for known in _TIMES:
            inside = [(value, text) for value, text in known if self.low <= value <= self.high]
            if len(inside) > 1:
                return inside[:: -(-len(inside) // most)]
        unit, size = max(((unit, size) for unit, size in _UNITS.items() if size <= max(1, self.low)), key=itemgetter(1))
        values, step = replace(self, low=self.low / size, high=self.high / size)._even(most)
        return [(value * size, f"{tick(value, step)}{THIN}{unit}") for value in values]

    def ticks(self, most: int = 6) -> list[tuple[float, str]]:
        """Round positions inside the axis with their labels, about `most` of them."""
        if self.log and self.as_time:
            return self._times(most)
        if self.log:
            far = _log_ticks(self.low, self.high, most)
            return [(value, short_si(value)) for value in (far if len(far) > 1 else self._even(most)[0])]
        values, step = self._even(most)
        if self.as_percent:
            digits = max(0, -math.floor(math.log10(step * 100) + 1e-9))
            return [(value, percent(value, digits)) for value in values]
        return [(value, tick(value, step)) for value in values]

    def _even(self, most: int) -> tuple[list[float], float]:
        """Multiples of a round number inside the axis, and that number."""
        step = max(_step(self.high - self.low, most), 1.0 if self.whole else 0.0)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [index * step for index in range(first, last + 1)], step


def spread(values: Iterable[float], *, log: bool = False, pad: float = 0.06) -> tuple[float, float]:
    """The range of `values` with some air; never empty, and positive when `log`."""
    found = list(values)
    low, high = min(found), max(found)
    if log:
        air = (high / low) ** pad if high > low else 2.0
        return low / air, high * air
    air = (high - low) * pad if high - low > 1e-9 * max(abs(high), 1e-9) else max(abs(high) * 0.1, 1e-3)
    return low - air, high + air


def _step(span: float, most: int) -> float:
    """The smallest of 1, 2, 5 x 10^n that leaves at most `most` ticks."""
    magnitude = 10.0 ** math.floor(math.log10(span / most))
    return next(factor * magnitude for factor in (1, 2, 5, 10, 20) if span / (factor * magnitude) <= most)


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    ticks: list[float] = []
    for enough, factors in (
        (3, (1.0,)),
        (3, (1.0, 3.0)),
        (2, (1.0, 2.0, 5.0)),
        (0, (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)),
    ):
        every = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
        ticks = [value for value in every if low <= value <= high]
        if len(ticks) >= enough:
            break
    stride = math.ceil(len(ticks) / most) if len(ticks) > most else 1
    return ticks[::stride]
