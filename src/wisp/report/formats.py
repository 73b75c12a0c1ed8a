"""Numbers and text for people: everything that enters the page passes through here."""

from __future__ import annotations

import html
import math
import re

MISSING = "–"
UNKNOWN = "unknown"
THIN = "\u202f"
"""Narrow no-break space between a number and its unit."""
_PREFIXES = ("", "k", "M", "G", "T", "P", "E")
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def esc(value: object) -> str:
    """`value` as text that is safe inside HTML, inside a quoted attribute and as UTF-8.

    File names may hold control characters, and bytes that are no UTF-8, which Python keeps as lone surrogates;
    both become U+FFFD.
    """
    return html.escape(_UNPRINTABLE.sub("\ufffd", str(value)), quote=True)


def number(value: object) -> float | None:
    """`value` as a finite float, or None for everything else (None, text, NaN, infinity)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def percent(value: object, digits: int = 1) -> str:
    """A fraction as a percentage: 0.9534 -> `95.3 %`."""
    fraction = number(value)
    return MISSING if fraction is None else f"{100 * fraction:.{digits}f}{THIN}%"


def points(value: float) -> str:
    """A difference of two fractions in percentage points, with its sign: 0.071 -> `+7.1 points`."""
    rounded = round(100 * value, 1)
    sign = "+" if rounded > 0 else "−" if rounded < 0 else "±"
    return f"{sign}{abs(rounded):.1f} points"


def si(value: object, unit: str = "") -> str:
    """Three significant digits and an SI prefix: 1.843e9, `FLOP` -> `1.84 GFLOP`."""
    amount = number(value)
    if amount is None:
        return MISSING
    whole = amount
    if amount and abs(amount) < 1:
        return f"{amount:.3g}{THIN}{unit}".removesuffix(THIN)
    power = 0
    while abs(amount) >= 999.5 and power < len(_PREFIXES) - 1:
        amount, power = amount / 1000, power + 1
    if abs(amount) >= 999.5:
        return f"{whole:.2e}{THIN}{unit}".removesuffix(THIN)
    digits = 0 if float(amount).is_integer() and power == 0 else max(0, 2 - int(math.log10(max(abs(amount), 1))))
    return f"{amount:.{digits}f}{THIN}{_PREFIXES[power]}{unit}".removesuffix(THIN)


def short_si(value: float) -> str:
    """As `si` without zeros behind the point, for axes: 3e12 -> `3 T`."""
    amount, _, prefix = si(value).partition(THIN)
    if "." in amount and "e" not in amount:
        amount = amount.rstrip("0").rstrip(".")
    return f"{amount}{THIN}{prefix}".removesuffix(THIN)


def count(value: object) -> str:
    """A whole number with thousands separators: 12345 -> `12,345`."""
    amount = number(value)
    return MISSING if amount is None else f"{round(amount):,}"


def size(value: object) -> str:
    """Bytes: 12400000 -> `12.4 MB`."""
    return si(value, "B")


def duration(value: object) -> str:
    """Seconds: 252 -> `4 min 12 s`."""
    amount = number(value)
    if amount is None:
        return MISSING
    if amount < 59.5:
        return f"{amount:.1f}{THIN}s" if amount < 9.95 else f"{amount:.0f}{THIN}s"
    minutes, seconds = divmod(round(amount), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}{THIN}d {hours}{THIN}h"
    if hours:
        return f"{hours}{THIN}h {minutes:02d}{THIN}min"
    return f"{minutes}{THIN}min {seconds:02d}{THIN}s"


def plain(value: object) -> str:
    """Four significant digits, without trailing zeros: 0.00012 -> `0.00012`, 12.3456 -> `12.35`."""
    amount = number(value)
    if amount is None:
        return MISSING
    return f"{amount:,.0f}" if abs(amount) >= 10_000 else f"{amount:.4g}".replace("-", "−")


def tick(value: float, step: float) -> str:
    """A number on an axis whose ticks are `step` apart."""
    if abs(value) >= 10_000 or step >= 1000:
        return short_si(value)
    if step < 1e-5:
        return f"{value:.3g}".replace("-", "−")
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:.{digits}f}".replace("-", "−")


def shorten(text: str, length: int) -> str:
    """`text`, or its beginning and its end around an ellipsis: the end of a file name tells more than its middle."""
    if len(text) <= length:
        return text
    tail = length // 3
    return f"{text[: length - tail - 1]}…{text[-tail:]}"
