"""Rules for the functions of ``.dt``, which use Arrow's temporal kernels.

Fields of a column with a time zone are those of its local time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.expressions.binding import Bound, Rule, TypeMismatch, call, cast, constant
from hpcstream.expressions.types import TEMPORAL, align_for_arithmetic, family

_CALENDAR_UNITS = {
    "ns": "nanosecond",
    "us": "microsecond",
    "ms": "millisecond",
    "s": "second",
    "min": "minute",
    "m": "minute",
    "h": "hour",
    "d": "day",
    "w": "week",
    "mo": "month",
    "q": "quarter",
    "y": "year",
}
_UNITS_OF_THE_CLOCK = frozenset(
    ("nanosecond", "microsecond", "millisecond", "second", "minute", "hour")
)
_FIRST_INSTANT = {"ambiguous": "earliest", "nonexistent": "latest"}
"""The first of two midnights; the end of the gap if the clock skips midnight."""

_INTERVAL = re.compile(r"\s*(\d*)\s*([a-z]+)\s*")
_NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


def parse_interval(every: str) -> tuple[int, str]:
    """Return the number and Arrow's name of the unit of an interval such as ``"15min"``.

    Raises
    ------
    ValueError
        Not a positive number with a known unit.
    """
    match = _INTERVAL.fullmatch(every)
    if match is None or match[2] not in _CALENDAR_UNITS or int(match[1] or 1) == 0:
        raise ValueError(
            f"truncate({every!r}): expected a number and one of "
            f"{', '.join(_CALENDAR_UNITS)}, as in '15min'"
        )
    return int(match[1] or 1), _CALENDAR_UNITS[match[2]]


def _moment(arguments: Sequence[Bound]) -> Bound:
    (value,) = arguments
    if family(value.data_type) not in TEMPORAL:
        raise TypeMismatch("it takes a timestamp or date; cast it, as in .cast('timestamp[us]')")
    return value


def _zone(moment: Bound) -> str | None:
    zone: str | None = getattr(moment.data_type, "tz", None)
    return zone


def _by_the_clock(moment: Bound) -> Bound:
    """Return the local time without a zone; with a zone Arrow ignores the seconds of offsets."""
    return moment if _zone(moment) is None else call("local_timestamp", [moment])


def _field(function: str) -> Rule:
    def rule(arguments: Sequence[Bound], options: dict[str, Any]) -> Bound:
        return cast(call(function, [_moment(arguments)]), pa.int64())

    return rule


def _clock_field(function: str) -> Rule:
    def rule(arguments: Sequence[Bound], options: dict[str, Any]) -> Bound:
        value = _by_the_clock(_as_timestamp(_moment(arguments)))
        return cast(call(function, [value]), pa.int64())

    return rule


def _weekday(arguments: Sequence[Bound], options: dict[str, Any]) -> Bound:
    monday_is_one = pc.DayOfWeekOptions(count_from_zero=False, week_start=1)
    return cast(call("day_of_week", [_moment(arguments)], monday_is_one), pa.int64())


def _date(arguments: Sequence[Bound], options: dict[str, Any]) -> Bound:
    return cast(_by_the_clock(_moment(arguments)), pa.date32())


def _truncate(arguments: Sequence[Bound], options: dict[str, Any]) -> Bound:
    multiple, unit = parse_interval(options["every"])
    interval = pc.RoundTemporalOptions(multiple, unit)
    moment = _moment(arguments)
    zone = _zone(moment)
    if zone is None:
        return call("floor_temporal", [moment], interval)
    # Arrow raises in an hour that occurs twice, or not at all.
    clock = _by_the_clock(moment)
    begin = call("floor_temporal", [clock], interval)
    if unit in _UNITS_OF_THE_CLOCK:
        return call("subtract", [moment, call("subtract", [clock, begin])])
    return call("assume_timezone", [begin], pc.AssumeTimezoneOptions(zone, **_FIRST_INSTANT))


def _strftime(arguments: Sequence[Bound], options: dict[str, Any]) -> Bound:
    return call("strftime", [_moment(arguments)], pc.StrftimeOptions(options["format"]))


def _epoch(arguments: Sequence[Bound], options: dict[str, Any]) -> Bound:
    value = _as_timestamp(_moment(arguments))
    value = cast(value, pa.timestamp(value.data_type.unit))  # with a zone: the same count, in UTC
    wanted = options["unit"]
    per_tick, per_wanted = _NANOSECONDS[value.data_type.unit], _NANOSECONDS[wanted]
    if per_wanted > per_tick:  # to a coarser unit: round down, also before 1970
        names = {"s": "second", "ms": "millisecond", "us": "microsecond"}
        seconds = pc.RoundTemporalOptions(1, names[wanted])
        value = call("floor_temporal", [value], seconds)
    return cast(cast(value, pa.timestamp(wanted), safe=per_wanted <= per_tick), pa.int64())


def _total_seconds(arguments: Sequence[Bound], options: dict[str, Any]) -> Bound:
    (value,) = arguments
    if family(value.data_type) != "duration":
        raise TypeMismatch("it takes a duration, as the difference of two timestamps")
    ticks_per_second = 10**9 // _NANOSECONDS[value.data_type.unit]
    ticks = cast(value, pa.int64())
    number, divisor = align_for_arithmetic(ticks, constant(pa.scalar(float(ticks_per_second))))
    return call("divide", [number, divisor])


def _as_timestamp(value: Bound) -> Bound:
    if family(value.data_type) == "timestamp":
        return value
    return cast(value, pa.timestamp("s" if pa.types.is_date32(value.data_type) else "ms"))


TIME_RULES: dict[str, Rule] = {
    "dt.year": _field("year"),
    "dt.quarter": _field("quarter"),
    "dt.month": _field("month"),
    "dt.week": _field("iso_week"),
    "dt.day": _field("day"),
    "dt.day_of_year": _field("day_of_year"),
    "dt.weekday": _weekday,
    "dt.hour": _clock_field("hour"),
    "dt.minute": _clock_field("minute"),
    "dt.second": _clock_field("second"),
    "dt.millisecond": _clock_field("millisecond"),
    "dt.microsecond": _clock_field("microsecond"),
    "dt.nanosecond": _clock_field("nanosecond"),
    "dt.date": _date,
    "dt.truncate": _truncate,
    "dt.strftime": _strftime,
    "dt.epoch": _epoch,
    "dt.total_seconds": _total_seconds,
}
