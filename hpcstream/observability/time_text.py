"""Event times as text."""

from __future__ import annotations

import numpy as np

from hpcstream.columns.event_time import MAX_TIME, MIN_TIME
from hpcstream.columns.shown_times import time_texts


def format_time(ticks: int, unit: str | None) -> str:
    """Return an event time as a date; as a number if its unit is unknown."""
    if ticks == MIN_TIME:
        return "before any row"
    if ticks == MAX_TIME:
        return "end of stream"
    if unit is None:
        return str(ticks)
    (text,) = time_texts(np.array([ticks]), unit)
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction[:3]}" if fraction[:3].strip("0") else whole
