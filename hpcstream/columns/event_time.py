"""Event time: its hidden column, its units, and durations.

Inside the engine a time is an int64 count of the stream's *unit* (for a ``timestamp[us]``
column microseconds since the epoch, for an int64 column the ``event_time_unit``). It is
stored in the hidden column `TIME_COLUMN`. A watermark ``w`` promises that no row before
``w`` will arrive.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import pyarrow as pa

from hpcstream.errors import PlanError

TIME_COLUMN = "__event_time"
"""Hidden int64 column: the event time of each row, in the stream's unit."""

ORDER_COLUMN = "__row_order"
"""Hidden int64 column: source, split and row number, to order rows of equal event time."""

PLACE_COLUMN = "__row_place"
"""Hidden int64 column: the number of a row among those derived from the same row."""

HIDDEN_COLUMNS = (TIME_COLUMN, ORDER_COLUMN, PLACE_COLUMN)

WORD_PREFIX = "__word:"
"""Prefix of the names of accumulator columns, so that no key has such a name."""

RESERVED_PREFIXES = (
    "__event_time",
    "__row_order",
    "__row_place",
    "__input_",
    "__slice",
    "__rows",
    "__word",
    "__window",
    "__ordered",
)
"""Prefixes of the names of the engine's own columns."""

MIN_TIME = -(2**63)
"""The watermark of a stream that promises nothing yet."""

MAX_TIME = 2**63 - 1
"""The watermark of a stream that has ended."""

_MOST_TICKS = 2**61
"""Longest duration: window numbers must not overflow within three sizes of the ends of int64."""


def least_mark(marks: Sequence[int | None]) -> int | None:
    """Return the common mark of splits, ranks, edges or inputs.

    The *mark* of each is its watermark while it is active, `MAX_TIME` once it has ended, and
    None while it is idle: consumers do not wait for it then.

    Returns
    -------
    int or None
        The least mark of those that are active. If none is active: None if any is idle,
        `MAX_TIME` if all have ended.
    """
    active = [mark for mark in marks if mark is not None and mark != MAX_TIME]
    if active:
        return min(active)
    return None if None in marks else MAX_TIME


_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "min": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
    "w": 604_800_000_000_000,
}
_DURATION = re.compile(r"\s*([+-]?\d+(?:\.\d+)?)\s*(ns|us|ms|s|min|m|h|d|w)\s*")

Duration = str | dt.timedelta
"""A duration in the API: ``"500ms"``, ``"1h"`` or a `datetime.timedelta`."""


def parse_duration(duration: Duration) -> int:
    """Return a duration in nanoseconds.

    Raises
    ------
    ValueError
        Not a number with one of the units ns, us, ms, s, min, h, d, w.
    """
    if isinstance(duration, dt.timedelta):
        return (duration // dt.timedelta(microseconds=1)) * 1_000
    match = _DURATION.fullmatch(duration) if isinstance(duration, str) else None
    if match is None:
        raise ValueError(
            f"duration {duration!r}: expected a number and a unit (ns, us, ms, s, min, h, d, w), "
            "as in '500ms' or '1h', or a datetime.timedelta"
        )
    number, unit = match.groups()
    return int(Fraction(number) * _NANOSECONDS["min" if unit == "m" else unit])


def duration_text(ticks: int, unit: str) -> str:
    """Return a count of a unit as text for `parse_duration`, in the largest exact unit."""
    nanoseconds = ticks * _NANOSECONDS[unit]
    units = ("d", "h", "min", "s", "ms", "us", "ns")
    name = next(name for name in units if nanoseconds % _NANOSECONDS[name] == 0)
    return f"{nanoseconds // _NANOSECONDS[name]}{name}" if ticks else "0s"


def _how_to_make_times(found: pa.DataType) -> str:
    """Return how to convert a column of another type to event time."""
    values = found.value_type if pa.types.is_dictionary(found) else found
    make = "cast it"
    if pa.types.is_string(values) or pa.types.is_large_string(values):
        make = (
            "make times of ISO 8601 text by .str.to_datetime(), of other text by a format, as in "
            ".str.to_datetime('%d.%m.%Y %H:%M:%S'),"
        )
    elif pa.types.is_floating(values):
        make = (
            "make whole numbers, as microseconds of seconds by (col('t') * 1_000_000).round()"
            ".cast('int64') and with unit='us',"
        )
    elif pa.types.is_time(values):
        make = "it has no date: add one"
    return f"{make} in with_columns() and name it in with_event_time()"


@dataclass(frozen=True)
class TimeUnit:
    """The unit of a stream's event time.

    Attributes
    ----------
    name : str
        ``"ns"``, ``"us"``, ``"ms"``, ``"s"`` or ``"d"``.
    """

    name: str

    def __post_init__(self) -> None:
        if self.name not in ("ns", "us", "ms", "s", "d"):
            raise ValueError(f"event-time unit {self.name!r}: expected ns, us, ms, s or d")

    @classmethod
    def of_type(cls, time_type: pa.DataType, unit: str | None = None) -> TimeUnit:
        """Return the unit of an event-time column.

        Raises
        ------
        PlanError
            The type is not a time, or is an integer and ``unit`` is not given.
        """
        if pa.types.is_timestamp(time_type):
            return cls(time_type.unit)
        if pa.types.is_date32(time_type):
            return cls("d")
        if pa.types.is_date64(time_type):
            return cls("ms")
        if pa.types.is_int64(time_type):
            if unit is None:
                raise PlanError(
                    "event time is an int64 column; say its unit, as in event_time_unit='ms'"
                )
            return cls(unit)
        raise PlanError(
            f"event time must be a timestamp, date or int64 column; got {time_type}; "
            f"{_how_to_make_times(time_type)}"
        )

    def ticks(self, duration: Duration, *, what: str) -> int:
        """Return a duration as a count of this unit.

        Raises
        ------
        PlanError
            The duration is not a whole number of units, or too long.
        """
        nanoseconds = parse_duration(duration)
        ticks, rest = divmod(nanoseconds, _NANOSECONDS[self.name])
        if rest:
            raise PlanError(
                f"{what} {duration!r} is not a whole number of {self.name}, the unit of this "
                "stream's event time; cast the event-time column to a finer timestamp"
            )
        if abs(ticks) > _MOST_TICKS:
            years = _MOST_TICKS * _NANOSECONDS[self.name] // _NANOSECONDS["d"] // 365
            raise PlanError(
                f"{what} {duration!r} is longer than {years:,} years, the most that can be "
                f"counted beside event times in {self.name}; cast the event-time column to a "
                "coarser timestamp"
            )
        return ticks

    def seconds(self, ticks: int) -> float:
        """Return a count of this unit in seconds."""
        return ticks * _NANOSECONDS[self.name] / 1e9
