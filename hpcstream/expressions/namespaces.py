"""``col(x).str`` and ``col(x).dt``: functions of text and of time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hpcstream.calls import answers_wrong_calls
from hpcstream.expressions.functions.times import parse_interval
from hpcstream.hints import missing_attribute

E = TypeVar("E")
"""The expressions that the functions return."""

_EPOCH_UNITS = ("s", "ms", "us", "ns")


@answers_wrong_calls
class StringFunctions(Generic[E]):
    """Functions of a text column. Nulls remain null; characters are Unicode code points."""

    __slots__ = ("_apply",)

    def __init__(self, apply: Callable[..., E]) -> None:
        self._apply = apply

    if not TYPE_CHECKING:  # else type checkers would accept every name

        def __getattr__(self, name: str) -> Any:
            raise missing_attribute("StringFunctions", name, dir(type(self)))

    def lower(self) -> E:
        """Return the text in lower case."""
        return self._apply("str.lower")

    def upper(self) -> E:
        """Return the text in upper case."""
        return self._apply("str.upper")

    def length(self) -> E:
        """Return the number of characters, as int64."""
        return self._apply("str.length")

    len = length

    def contains(self, pattern: str, *, regex: bool = False) -> E:
        """Return whether the pattern occurs; a regular expression (RE2) if ``regex``."""
        return self._apply("str.contains", **_with_regex(regex, pattern=pattern))

    def starts_with(self, prefix: str) -> E:
        """Return whether the text starts with a prefix."""
        return self._apply("str.starts_with", pattern=prefix)

    def ends_with(self, suffix: str) -> E:
        """Return whether the text ends with a suffix."""
        return self._apply("str.ends_with", pattern=suffix)

    def replace(self, pattern: str, value: str, *, regex: bool = False) -> E:
        """Return the text with every occurrence of the pattern replaced."""
        return self._apply("str.replace", **_with_regex(regex, pattern=pattern, value=value))

    def slice(self, offset: int, length: int | None = None) -> E:
        """Return ``length`` characters, or all, from ``offset``; a negative one is from the end."""
        if length is None:
            return self._apply("str.slice", offset=offset)
        if length < 0:
            raise ValueError(f"slice length {length}: must not be negative")
        return self._apply("str.slice", offset=offset, length=length)

    def strip(self, characters: str | None = None) -> E:
        """Return the text without white space, or without ``characters``, at both ends."""
        return self._strip("str.strip", characters)

    def strip_start(self, characters: str | None = None) -> E:
        """Return the text without white space, or without ``characters``, at its start."""
        return self._strip("str.strip_start", characters)

    def strip_end(self, characters: str | None = None) -> E:
        """Return the text without white space, or without ``characters``, at its end."""
        return self._strip("str.strip_end", characters)

    def to_datetime(self, format: str | None = None, *, unit: str = "us") -> E:
        """Parse timestamps from ISO 8601 text, or in a ``strptime`` format.

        Other text raises, as do dates that do not exist, such as 2023-02-29, and second 60.
        ISO text becomes an instant in UTC: its zone or offset (``Z``, ``+02:00``) is applied,
        and without one it is read as UTC; digits beyond the unit are truncated.
        ``cast("timestamp[us]")`` parses ISO text without a zone to times without a zone. With
        a format, ``%z`` yields instants in UTC.

        Parameters
        ----------
        format : str, optional
            Such as ``"%d/%m/%Y %H:%M"``; None for ISO 8601 text, as ``2001-01-31T12:30:00Z``.
        unit : str
            ``"s"``, ``"ms"``, ``"us"`` or ``"ns"``.
        """
        if unit not in _EPOCH_UNITS:
            raise ValueError(f"to_datetime(unit={unit!r}): expected s, ms, us or ns")
        options = {} if format is None else {"format": format}
        return self._apply("str.to_datetime", **options, unit=unit)

    def _strip(self, function: str, characters: str | None) -> E:
        if characters is None:
            return self._apply(function)
        return self._apply(function, characters=characters)


@answers_wrong_calls
class TimeFunctions(Generic[E]):
    """Functions of a timestamp or date column, in local time if it has a time zone.

    Arrow reads the rules of time zones from the system's database. It supports no daylight
    saving time after 2037, and no years beyond 32767 BC or AD.
    """

    __slots__ = ("_apply",)

    def __init__(self, apply: Callable[..., E]) -> None:
        self._apply = apply

    if not TYPE_CHECKING:  # else type checkers would accept every name

        def __getattr__(self, name: str) -> Any:
            raise missing_attribute("TimeFunctions", name, dir(type(self)))

    def year(self) -> E:
        """Return the year."""
        return self._apply("dt.year")

    def quarter(self) -> E:
        """Return the quarter, 1 to 4."""
        return self._apply("dt.quarter")

    def month(self) -> E:
        """Return the month, 1 to 12."""
        return self._apply("dt.month")

    def week(self) -> E:
        """Return the ISO week, 1 to 53."""
        return self._apply("dt.week")

    def day(self) -> E:
        """Return the day of the month, from 1."""
        return self._apply("dt.day")

    def day_of_year(self) -> E:
        """Return the day of the year, from 1."""
        return self._apply("dt.day_of_year")

    def weekday(self) -> E:
        """Return the day of the week as in ISO 8601: Monday is 1, Sunday is 7."""
        return self._apply("dt.weekday")

    day_of_week = weekday

    def hour(self) -> E:
        """Return the hour, 0 to 23."""
        return self._apply("dt.hour")

    def minute(self) -> E:
        """Return the minute, 0 to 59."""
        return self._apply("dt.minute")

    def second(self) -> E:
        """Return the second, 0 to 59."""
        return self._apply("dt.second")

    def millisecond(self) -> E:
        """Return the milliseconds since the last full second."""
        return self._apply("dt.millisecond")

    def microsecond(self) -> E:
        """Return the microseconds since the last full millisecond."""
        return self._apply("dt.microsecond")

    def nanosecond(self) -> E:
        """Return the nanoseconds since the last full microsecond."""
        return self._apply("dt.nanosecond")

    def date(self) -> E:
        """Return the calendar date, as date32."""
        return self._apply("dt.date")

    def truncate(self, every: str) -> E:
        """Return the start of the interval that contains each time.

        In a time zone intervals of hours and less follow the local time with its offset: an
        hour that occurs twice has two starts. Days and more start at the first instant of a
        local day, which is not midnight if the clock skips that.

        Parameters
        ----------
        every : str
            A number and a unit: ns, us, ms, s, min, h, d, w (from Monday), mo,
            q or y, as in ``"15min"``.

        Raises
        ------
        ValueError
            Not a positive number with one of these units.
        """
        parse_interval(every)
        return self._apply("dt.truncate", every=every)

    def strftime(self, format: str) -> E:
        """Return text in a ``strftime`` format."""
        return self._apply("dt.strftime", format=format)

    def epoch(self, unit: str = "us") -> E:
        """Return int64 counts of ``unit`` (s, ms, us, ns) since 1970 in UTC, rounded down."""
        if unit not in _EPOCH_UNITS:
            raise ValueError(f"epoch({unit!r}): expected one of {', '.join(_EPOCH_UNITS)}")
        return self._apply("dt.epoch", unit=unit)

    def total_seconds(self) -> E:
        """Return a duration in seconds, as float64."""
        return self._apply("dt.total_seconds")


def _with_regex(regex: bool, **options: Any) -> dict[str, Any]:
    return {**options, "regex": True} if regex else options
