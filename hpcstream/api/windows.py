"""Window declarations; sizes become ticks once the time unit of the stream is known."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Protocol

from hpcstream.calls import answers_wrong_call
from hpcstream.columns.event_time import Duration, TimeUnit, parse_duration
from hpcstream.errors import PlanError
from hpcstream.operators.windows.assigners.base import WindowAssigner
from hpcstream.operators.windows.assigners.calendar import check_zone
from hpcstream.operators.windows.assigners.fixed import (
    CumulativeWindows,
    SlidingWindows,
    TumblingWindows,
)
from hpcstream.operators.windows.assigners.periods import CalendarWindows, Period
from hpcstream.operators.windows.assigners.sessions import SessionWindows


class Window(Protocol):
    """What `KeyedStream.window` takes: made by `tumbling`, `sliding` and their kin."""

    def assigner(self, unit: TimeUnit) -> WindowAssigner:
        """Return the window in ticks of ``unit``."""


@dataclass(frozen=True)
class _Tumbling:
    size: Duration
    offset: Duration

    def __repr__(self) -> str:
        return f"tumbling({_sizes(self.size, offset=self.offset)})"

    def assigner(self, unit: TimeUnit) -> WindowAssigner:
        return TumblingWindows(
            unit.ticks(self.size, what="window size"),
            unit.ticks(self.offset, what="window offset"),
        )


@dataclass(frozen=True)
class _Sliding:
    size: Duration
    slide: Duration
    offset: Duration

    def __repr__(self) -> str:
        return f"sliding({_sizes(self.size, self.slide, offset=self.offset)})"

    def assigner(self, unit: TimeUnit) -> WindowAssigner:
        return SlidingWindows(
            unit.ticks(self.size, what="window size"),
            unit.ticks(self.slide, what="window slide"),
            unit.ticks(self.offset, what="window offset"),
        )


@dataclass(frozen=True)
class _Cumulative:
    size: Duration
    step: Duration
    offset: Duration
    only_changed: bool

    def __repr__(self) -> str:
        only = ", only_changed=True" if self.only_changed else ""
        return f"cumulate({_sizes(self.size, self.step, offset=self.offset)}{only})"

    def assigner(self, unit: TimeUnit) -> WindowAssigner:
        return CumulativeWindows(
            unit.ticks(self.size, what="window size"),
            unit.ticks(self.step, what="window step"),
            unit.ticks(self.offset, what="window offset"),
            self.only_changed,
        )


@dataclass(frozen=True)
class _Calendar:
    name: str
    sizes: tuple[Duration, ...]
    offset: Duration
    zone: str
    only_changed: bool = False

    def __post_init__(self) -> None:
        check_zone(self.zone)
        try:
            self._assigner(1_000_000)
        except ValueError as error:
            raise ValueError(f"{self!r}: {error}") from None

    def __repr__(self) -> str:
        only = ", only_changed=True" if self.only_changed else ""
        return f"{self.name}({_sizes(*self.sizes, offset=self.offset)}, tz={self.zone!r}{only})"

    def assigner(self, unit: TimeUnit) -> WindowAssigner:
        if unit.name == "d":
            raise PlanError(
                f"{self!r}: event time in days has no time of day, which tells the local day; "
                "leave out tz=, or cast the event-time column to a timestamp"
            )
        per_second = unit.ticks("1s", what="a second")
        unit.ticks(self.offset, what="window offset")
        return self._assigner(per_second)

    def _assigner(self, per_second: int) -> WindowAssigner:
        size, *slide = map(Period.parse, self.sizes)
        return CalendarWindows(
            size,
            slide[0] if slide else size,
            dt.timedelta(microseconds=parse_duration(self.offset) // 1000),
            self.zone,
            per_second,
            self.name == "cumulate",
            self.only_changed,
        )


@dataclass(frozen=True)
class _Session:
    gap: Duration

    def __repr__(self) -> str:
        return f"session({_sizes(self.gap, offset='0s')})"

    def assigner(self, unit: TimeUnit) -> WindowAssigner:
        return SessionWindows(unit.ticks(self.gap, what="session gap"))


@answers_wrong_call
def tumbling(size: Duration, offset: Duration = "0s", *, tz: str | None = None) -> Window:
    """Return windows of ``size`` side by side; each row is in exactly one.

    Parameters
    ----------
    size : str or datetime.timedelta
        As ``"10s"``, ``"1h"``, ``"1d"``; with ``tz`` whole days, weeks (``"1w"``), months
        (``"1mo"``) or years (``"1y"``).
    offset : str or datetime.timedelta
        Shifts the starts, which are otherwise multiples of ``size`` since the epoch; with ``tz``
        by the clocks: ``"6h"`` is 06:00 on every day.
    tz : str, optional
        A time zone, as ``"Europe/Berlin"``: windows begin at midnight there, weeks on Monday,
        months on the first. A day may have 23 or 25 hours. Columns without a time zone are UTC.

    Raises
    ------
    ValueError
        Not a duration, not positive, or no such time zone.
    """
    if tz is not None:
        return _Calendar("tumbling", (size,), offset, tz)
    _positive("tumbling", size=size)
    parse_duration(offset)
    return _Tumbling(size, offset)


@answers_wrong_call
def sliding(
    size: Duration, slide: Duration, offset: Duration = "0s", *, tz: str | None = None
) -> Window:
    """Return windows of ``size``, one starting every ``slide``; a row is in several.

    Parameters
    ----------
    size, slide : str or datetime.timedelta
        ``slide`` may not exceed ``size``.
    offset : str or datetime.timedelta
        Shifts the starts, which are otherwise multiples of ``slide`` since the epoch.
    tz : str, optional
        A time zone: days, weeks, months and years are those of the calendar there, as in
        `tumbling`.

    Raises
    ------
    ValueError
        Not durations, not positive, or ``slide`` leaves gaps.
    """
    if tz is not None:
        return _Calendar("sliding", (size, slide), offset, tz)
    _positive("sliding", size=size, slide=slide)
    parse_duration(offset)
    if parse_duration(slide) > parse_duration(size):
        raise ValueError(
            f"sliding(size={size!r}, slide={slide!r}): slide exceeds size, so rows would fall "
            "between windows; filter before windowing if that is meant"
        )
    return _Sliding(size, slide, offset)


hopping = sliding


@answers_wrong_call
def cumulate(
    size: Duration,
    step: Duration,
    offset: Duration = "0s",
    *,
    only_changed: bool = False,
    tz: str | None = None,
) -> Window:
    """Return windows that grow by ``step`` until they are ``size`` long, then begin anew.

    With ``cumulate("1d", "1h")`` a day has 24 windows, all of which begin at midnight: the
    totals of a day so far, hour by hour.

    Parameters
    ----------
    size, step : str or datetime.timedelta
        ``size`` must be a whole number of steps.
    offset : str or datetime.timedelta
        Shifts the starts, which are otherwise multiples of ``size`` since the epoch.
    only_changed : bool
        Leave out the results of a key at steps that brought no rows of it. Without, a key
        has a result at every step of the period from its first row on.
    tz : str, optional
        A time zone: days, weeks, months and years are those of the calendar there, as in
        `tumbling`. ``cumulate("1mo", "1d", tz=...)`` is a month so far, day by day.

    Raises
    ------
    ValueError
        Not durations, not positive, or ``size`` is not a whole number of steps.
    """
    if tz is not None:
        return _Calendar("cumulate", (size, step), offset, tz, only_changed)
    _positive("cumulate", size=size, step=step)
    parse_duration(offset)
    if parse_duration(size) % parse_duration(step):
        raise ValueError(
            f"cumulate(size={size!r}, step={step!r}): size must be a whole number of steps"
        )
    return _Cumulative(size, step, offset, only_changed)


@answers_wrong_call
def session(gap: Duration) -> Window:
    """Return windows that hold the rows of a key until none has come for ``gap`` of event time.

    Two neighbouring rows of a key are in one session if they are less than ``gap`` apart.
    ``window_start`` is the time of the first row, ``window_end`` that of the last plus ``gap``.
    A row is late if a session of it alone would have ended; one behind the watermark that is
    not late joins its session, or begins one, and never changes a result.

    Parameters
    ----------
    gap : str or datetime.timedelta
        As ``"30min"``.

    Raises
    ------
    ValueError
        Not a duration, or not positive.
    """
    _positive("session", gap=gap)
    return _Session(gap)


def _positive(name: str, **durations: Duration) -> None:
    for what, duration in durations.items():
        if isinstance(duration, str) and duration.strip().endswith(("mo", "y")):
            raise ValueError(
                f"{name}({what}={duration!r}): months and years are those of a calendar; say "
                "whose, as in tz='Europe/Berlin' or tz='UTC'"
            )
        if parse_duration(duration) <= 0:
            raise ValueError(f"{name}({what}={duration!r}): {what} must be positive")


def _sizes(*sizes: Duration, offset: Duration) -> str:
    text = ", ".join(map(str, sizes))
    return text if parse_duration(offset) == 0 else f"{text}, offset {offset}"
