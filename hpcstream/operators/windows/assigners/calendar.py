"""Days, weeks, months and years of a time zone as slices of event time.

Slices are numbered by the local calendar, from 1970-01-01 (weeks: from Monday, 1969-12-29)
or from January of the year 0, so a number means the same in every run, whatever times it sees.
Their starts are those of the zone, from the data of `zoneinfo`: a day has 23, 24 or 25 hours.
A start that no clock shows is the first instant after the gap; one that comes twice is the first.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import zoneinfo
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np

from hpcstream.columns.event_time import MAX_TIME, MIN_TIME
from hpcstream.operators.windows.assigners.slicing import SliceGrid, WindowLayout
from hpcstream.state.arrays import Ints

_EPOCH = dt.datetime(1970, 1, 1)
_UTC_EPOCH = _EPOCH.replace(tzinfo=dt.UTC)
_FIRST, _LAST = dt.datetime(2, 1, 1), dt.datetime(9900, 1, 1)
_SECOND = dt.timedelta(seconds=1)
_DAY = dt.timedelta(days=1)

_MONTHS_TO_1970 = 1970 * 12
MONDAY = -3
"""The Monday where weeks are counted from: 1969-12-29, in days since 1970."""

_TABLE = 4096  # slices between which times are looked up at once
_MARGIN = 64  # slices that a table reaches beyond the times it is made for


@dataclass(frozen=True)
class CalendarGrid(SliceGrid):
    """Slices of ``length`` days or months of a time zone, each begun ``offset`` into its day.

    Attributes
    ----------
    zone : str
        As in ``"Europe/Berlin"``.
    length : int
    unit : {"d", "mo"}
    anchor : int
        Where slice 0 begins: days since 1970-01-01, or months since January of the year 0.
    offset : timedelta
        By the calendar: of 06:00, six hours after midnight on the clocks.
    per_second : int
        Ticks of event time in a second.
    """

    zone: str
    length: int
    unit: Literal["d", "mo"]
    anchor: int
    offset: dt.timedelta
    per_second: int

    @cached_property
    def _zone(self) -> zoneinfo.ZoneInfo:
        return zoneinfo.ZoneInfo(self.zone)

    def store_times(self, times: Ints) -> Ints:
        """Return the numbers of slices: the table of slices takes them for times.

        Raises
        ------
        ValueError
            A time is before the year 2 or after 9899, where there is no calendar.
        """
        if not len(times):
            return times
        numbers = self._numbers(times, int(times.min()), int(times.max()))
        numbers.setflags(write=False)
        return numbers

    def _numbers(self, times: Ints, least: int, greatest: int) -> Ints:
        # Kernels are loaded when a job runs, not when it is planned.
        from hpcstream.kernels import calendar

        low, high = self._checked(least), self._checked(greatest)
        numbers = np.empty(len(times), dtype=np.int64)
        if high - low < _TABLE:
            first, starts = self._table(low, high)
            part = starts[low - first : high - first + 2]
            calendar.numbers_of_times(times, part, low, numbers)
            return numbers
        middle = self.start_of((low + high) // 2)
        for half in (times < middle, times >= middle):
            some = times[half]
            if len(some):
                numbers[half] = self._numbers(some, int(some.min()), int(some.max()))
        return numbers

    def _checked(self, time: int) -> int:
        number = self.number_at(time)
        if not self.bounds[0] <= number <= self.bounds[1]:
            raise ValueError(
                f"event time {time} is {time / self.per_second / 31_556_952 + 1970:.0f} in years, "
                "where there is no calendar: is the unit of the event-time column right?"
            )
        return number

    @cached_property
    def bounds(self) -> tuple[int, int]:
        """The first and the last slice that rows may be in."""
        return self._number_of_local(_FIRST), self._number_of_local(_LAST)

    def _table(self, low: int, high: int) -> tuple[int, Ints]:
        """Return the first of some slices, and their starts: among them ``low`` to ``high + 1``."""
        return _starts(self, low // _MARGIN * _MARGIN, (high + 1) // _MARGIN * _MARGIN + _MARGIN)

    def number_at(self, watermark: int) -> int:
        """Return the slice that contains a time; one beyond all at the ends of time."""
        local = self._local(watermark)
        if local is None:
            return self.bounds[0] - 1 if watermark < 0 else self.bounds[1] + 1
        number = self._number_of_local(local)
        while watermark < self.start_of(number):
            number -= 1
        while watermark >= self.start_of(number + 1):
            number += 1
        return number

    def _local(self, time: int) -> dt.datetime | None:
        """Return what clocks show, to the second; None where there is no calendar."""
        try:
            utc = _UTC_EPOCH + dt.timedelta(seconds=time // self.per_second)
            local = utc.astimezone(self._zone).replace(tzinfo=None)
        except OverflowError:
            return None
        return local if _FIRST <= local <= _LAST else None

    def _number_of_local(self, local: dt.datetime) -> int:
        """Return the slice of a local time, were there no changes of clocks."""
        local -= self.offset
        if self.unit == "d":
            return ((local - _EPOCH).days - self.anchor) // self.length
        return (local.year * 12 + local.month - 1 - self.anchor) // self.length

    def starts_of(self, numbers: Ints) -> Ints:
        """Return the first time of each slice."""
        distinct, inverse = np.unique(numbers, return_inverse=True)
        starts = np.array([self.start_of(number) for number in distinct.tolist()], dtype=np.int64)
        return starts[inverse]

    def start_of(self, number: int) -> int:
        """Return the first time of a slice."""
        return _start(self, number)

    def _start(self, number: int) -> int:
        count = self.anchor + number * self.length
        try:
            if self.unit == "d":
                local = _EPOCH + dt.timedelta(days=count)
            else:
                local = dt.datetime(count // 12, count % 12 + 1, 1)
            ticks = self._ticks(local + self.offset)
        except (ValueError, OverflowError):  # there is no such year
            return MIN_TIME if number < self.bounds[0] else MAX_TIME
        return min(max(ticks, MIN_TIME), MAX_TIME)

    def _ticks(self, local: dt.datetime) -> int:
        """Return the first instant at which clocks show a time, or would have."""
        aware = local.replace(tzinfo=self._zone)
        utc = aware.astimezone(dt.UTC)
        if utc.astimezone(self._zone).replace(tzinfo=None) != local:
            utc = self._end_of_gap(local)
        elapsed = utc - _UTC_EPOCH
        ticks = (elapsed.days * 86_400 + elapsed.seconds) * self.per_second
        return ticks + elapsed.microseconds * self.per_second // 1_000_000

    def _end_of_gap(self, local: dt.datetime) -> dt.datetime:
        """Return the first instant after the gap in which a local time lies."""
        before = local.replace(tzinfo=self._zone, fold=1).astimezone(dt.UTC)
        after = local.replace(tzinfo=self._zone, fold=0).astimezone(dt.UTC)
        before, after = before.replace(microsecond=0), after.replace(microsecond=0) + _SECOND
        offset = after.astimezone(self._zone).utcoffset()
        while after - before > _SECOND:  # clocks change between them, at a whole second
            middle = before + (after - before) // _SECOND // 2 * _SECOND
            if middle.astimezone(self._zone).utcoffset() == offset:
                after = middle
            else:
                before = middle
        return after

    def digest(self) -> str:
        """Return a digest of the zone's clocks from 1970 to 2037, week by week."""
        days = (_EPOCH + dt.timedelta(days=7 * week) for week in range(68 * 52))
        offsets = [day.replace(tzinfo=self._zone).utcoffset() for day in days]
        return hashlib.sha256(repr(offsets).encode()).hexdigest()[:8]


def check_zone(zone: str) -> None:
    """Raise `ValueError` for a time zone that is not known here."""
    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError, TypeError):
        raise ValueError(
            f"tz={zone!r}: no time zone of this name; names are as in 'Europe/Berlin' or 'UTC'. "
            "Where the system has no data of time zones, install tzdata"
        ) from None


@lru_cache(maxsize=4096)
def _start(grid: CalendarGrid, number: int) -> int:
    return grid._start(number)


@lru_cache(maxsize=8)
def _starts(grid: CalendarGrid, first: int, stop: int) -> tuple[int, Ints]:
    starts = np.array([grid._start(number) for number in range(first, stop)], dtype=np.int64)
    return first, starts


class MonthsOfDays(WindowLayout):
    """Windows of days that begin with the first of a month and end after one of its days.

    Parameters
    ----------
    months : int
        In a period; the first period of all is January of the year 0 and what follows.
    """

    def __init__(self, months: int) -> None:
        self._months = months
        self.most_slices = 31 * months

    def slices_of(self, window: int) -> range:
        """Return the days of a window."""
        return range(self._first_day(window, 0), window + 1)

    def windows_of(self, number: int) -> range:
        """Return the windows that contain a day."""
        return range(number, self._first_day(number, 1))

    def ranges_of(self, windows: Ints) -> tuple[Ints, Ints]:
        """Return the first day of each window, and the first one after it."""
        return self._first_days(windows, 0), windows + 1

    def _first_day(self, day: int, periods: int) -> int:
        return int(self._first_days(np.array([day]), periods)[0])

    def _first_days(self, days: Ints, periods: int) -> Ints:
        """Return the first day of the period of each day, or of one so many periods later."""
        months = days.astype("M8[D]").astype("M8[M]").astype(np.int64) + _MONTHS_TO_1970
        months = (months // self._months + periods) * self._months - _MONTHS_TO_1970
        firsts: Ints = months.astype("M8[M]").astype("M8[D]").astype(np.int64)
        return firsts
