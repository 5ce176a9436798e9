"""Event times and spans of time as people read them."""

from __future__ import annotations

import numpy as np

from hpcstream.columns.event_time import MAX_TIME, MIN_TIME
from hpcstream.columns.shown_times import time_texts

_SPANS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))


def format_time(ticks: int, unit: str | None) -> str:
    """Return an event time as a date; as the bare number if its unit is not known."""
    if ticks == MIN_TIME:
        return "before any row"
    if ticks == MAX_TIME:
        return "end of stream"
    if unit is None:
        return str(ticks)
    (text,) = time_texts(np.array([ticks]), unit)
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction[:3]}" if fraction[:3].strip("0") else whole


def format_span(seconds: float) -> str:
    """Return a length of time in the greatest unit it fills: ``4.2 s``, ``3.1 h``, ``12 d``."""
    for length, name in _SPANS:
        if abs(seconds) >= length:
            amount = seconds / length
            return f"{amount:.0f} {name}" if abs(amount) >= 10 else f"{amount:.1f} {name}"
    return f"{seconds:.0f} s" if abs(seconds) >= 10 else f"{seconds:.1f} s"


def format_count(value: float) -> str:
    """Return a count with three digits or so: ``812``, ``34.5 M``."""
    for factor, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.1f} {name}"
    return f"{value:.0f}"


def format_bytes(value: int) -> str:
    """Return a number of bytes: ``512 B``, ``3.1 MiB``."""
    if value < 1024:
        return f"{value} B"
    amount = float(value)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1024 or unit == "GiB":
            break
    return f"{amount:.1f} {unit}"
