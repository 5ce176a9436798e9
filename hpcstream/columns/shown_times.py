"""Formats points in time and durations, for any year that an int64 can represent.

Python's `datetime` is limited to the year 9999 and to microseconds; NumPy's calendar is not.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_CODES = {**{name: name for name in _PER_SECOND}, "d": "D"}
_MOST_DAYS = 2**50
"""NumPy's calendar is wrong beyond this number of days, about 3,000,000,000,000 years."""


def time_texts(ticks: np.ndarray, unit: str) -> list[str]:
    """Return points in time, as ``2001-01-31 12:00:00.5``; without a fraction if it is zero.

    Parameters
    ----------
    ticks : int64[n]
        Since 1970.
    unit : str
        ``"ns"``, ``"us"``, ``"ms"``, ``"s"`` or ``"d"``.
    """
    days = unit == "d"
    texts = np.datetime_as_string(np.asarray(ticks, np.int64).view(f"M8[{_CODES[unit]}]")).tolist()
    shown = []
    for text, tick in zip(texts, np.asarray(ticks, np.int64).tolist(), strict=True):
        if text == "NaT" or (days and abs(tick) > _MOST_DAYS):
            shown.append(f"{tick} {unit}")
        else:
            shown.append(_without_zeros(text.replace("T", " ")))
    return shown


def _without_zeros(text: str) -> str:
    """Return a time with the least number of fractional digits: 0, 3, 6 or 9."""
    whole, dot, fraction = text.partition(".")
    while fraction.endswith("000"):
        fraction = fraction[:-3]
    return f"{whole}{dot}{fraction}" if fraction else whole


def timestamp_texts(array: pa.TimestampArray) -> list[str]:
    """Return the texts of timestamps without nulls, in their time zone if they have one."""
    unit, zone = array.type.unit, array.type.tz
    ticks = _ticks(array)
    if zone is None:
        return time_texts(ticks, unit)
    try:
        local = _ticks(pc.local_timestamp(array))
    except pa.ArrowException:  # an unknown time zone, or an instant outside Arrow's calendar
        local = ticks
    seconds = ((local - ticks) // _PER_SECOND[unit]).tolist()
    return [f"{t}{_offset(s)}" for t, s in zip(time_texts(local, unit), seconds, strict=True)]


def _ticks(array: pa.Array) -> np.ndarray:
    return np.asarray(array.cast(pa.int64()).to_numpy(zero_copy_only=False), np.int64)


def _offset(seconds: int) -> str:
    minutes, rest = divmod(abs(seconds), 60)
    text = f"{'-' if seconds < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}"
    return f"{text}:{rest:02}" if rest else text


def clock_text(ticks: int, unit: str) -> str:
    """Return a time of day, as ``12:00:00.5``."""
    (text,) = time_texts(np.array([ticks]), unit)
    return text.partition(" ")[2] or text


def span_text(ticks: int, unit: str) -> str:
    """Return a duration, as ``2 days 12:00:00.5``."""
    per_day = 86_400 * _PER_SECOND[unit]
    days, rest = divmod(abs(ticks), per_day)
    clock = clock_text(rest, unit)
    text = f"{days} day{'s' if days > 1 else ''} {clock}" if days else clock
    return f"-{text}" if ticks < 0 else text


def time_unit(data_type: pa.DataType, units: Mapping[str, str], name: str) -> str | None:
    """Return the unit of an int64 column that holds points in time; None for other columns."""
    return units.get(name) if pa.types.is_int64(data_type) else None
