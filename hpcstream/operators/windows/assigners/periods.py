"""Window assigners of the calendar: days, weeks, months and years of a time zone."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from functools import cached_property
from math import gcd
from typing import Literal

from hpcstream.operators.windows.assigners.base import WindowAssigner
from hpcstream.operators.windows.assigners.calendar import MONDAY, CalendarGrid, MonthsOfDays
from hpcstream.operators.windows.assigners.slicing import (
    CumulativeLayout,
    Slicing,
    SlidingLayout,
    WindowLayout,
)
from hpcstream.stable_keys import Key

Unit = Literal["d", "w", "mo", "y"]


_DAY = dt.timedelta(days=1)
_PERIOD = re.compile(r"\s*(\d{1,5})\s*(d|w|mo|y)\s*")


@dataclass(frozen=True)
class Period:
    """A length of time of the calendar: so many days, weeks, months or years."""

    count: int
    unit: Unit

    @classmethod
    def parse(cls, text: str | dt.timedelta) -> Period:
        """Return the period of a text such as ``"1d"``, ``"2w"``, ``"3mo"`` or ``"1y"``.

        Raises
        ------
        ValueError
            It is something else.
        """
        if isinstance(text, dt.timedelta) and text > _DAY * 0 and text % _DAY == _DAY * 0:
            return cls(text // _DAY, "d")
        found = _PERIOD.fullmatch(text) if isinstance(text, str) else None
        if found is None or not int(found[1]):
            raise ValueError(
                f"{text!r} is no number of days (d), weeks (w), months (mo) or years (y): windows "
                "in a time zone are made of whole days, since in the hour that comes twice when "
                "clocks are set back two moments have one local hour"
            )
        return cls(int(found[1]), found[2])  # type: ignore[arg-type]

    @property
    def days(self) -> int:
        """Its length in days; 0 if days do not tell it."""
        return self.count * {"d": 1, "w": 7}.get(self.unit, 0)

    @property
    def months(self) -> int:
        """Its length in months; 0 if months do not tell it."""
        return self.count * {"mo": 1, "y": 12}.get(self.unit, 0)

    @property
    def least_days(self) -> int:
        """Its length in days, at least."""
        return self.days or 28 * self.months

    def __str__(self) -> str:
        return f"{self.count}{self.unit}"


@dataclass(frozen=True)
class CalendarWindows(WindowAssigner):
    """Windows of ``size``, one every ``slide``, by the calendar of a time zone.

    Or, if they cumulate, windows that begin every ``size`` and end at every ``slide`` of it.

    Attributes
    ----------
    size, slide : Period
    offset : timedelta
        By which windows begin later than at midnight.
    zone : str
    per_second : int
        Ticks of event time in a second.
    cumulates, only_changed : bool

    Raises
    ------
    ValueError
        Windows do not overlap or leave gaps, ``slide`` does not divide a period that is
        cumulated, days and months do not go together, or the offset is a slice long.
    """

    size: Period
    slide: Period
    offset: dt.timedelta
    zone: str
    per_second: int
    cumulates: bool = False
    only_changed: bool = False
    kernels = frozenset({"calendar"})

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ValueError(problem)

    def _problem(self) -> str:
        """Return what is wrong with size, slide and offset; empty: nothing."""
        size, slide = self.size, self.slide
        if self.cumulates and not self._divides:
            return f"a period of {size} is not a whole number of steps of {slide}"
        if not self.cumulates and bool(size.days) != bool(slide.days):
            return f"windows of {size} every {slide}: days and months do not go together"
        if not self.cumulates and (size.days, size.months) < (slide.days, slide.months):
            return f"slide {slide} exceeds size {size}, so rows would fall between windows"
        least = dt.timedelta(days=self._step.least_days)
        if not -least < self.offset < least:
            return f"the offset must be less than {self._step}"
        return ""

    @property
    def _divides(self) -> bool:
        """Whether periods of a size are whole numbers of steps, on the days where these begin."""
        size, step = self.size, self.slide
        if step.days and size.months:
            return step == Period(1, "d")
        if step.unit == "w" and size.unit == "d":
            return False
        return size.days % step.days == 0 if step.days else size.months % step.months == 0

    @cached_property
    def _step(self) -> Period:
        """Of slices."""
        size, slide = self.size, self.slide
        if slide.months:
            months = slide.months if self.cumulates else gcd(size.months, slide.months)
            return Period(months, "mo")
        return slide if self.cumulates else Period(gcd(size.days, slide.days), "d")

    @property
    def overlaps(self) -> bool:  # type: ignore[override]
        """Whether a row may be in several windows."""
        return (self.size.days, self.size.months) != (self.slide.days, self.slide.months)

    def slicing(self) -> Slicing:
        """Return days or months, and the windows made of them."""
        return Slicing(self.grid, self._layout())

    @cached_property
    def grid(self) -> CalendarGrid:
        """The slices."""
        step = self._step
        aligned = self.size if self.cumulates else self.slide
        anchor = MONDAY if aligned.unit == "w" else 0
        if step.days:
            return CalendarGrid(self.zone, step.days, "d", anchor, self.offset, self.per_second)
        return CalendarGrid(self.zone, step.months, "mo", 0, self.offset, self.per_second)

    def _layout(self) -> WindowLayout:
        size, slide, step = self.size, self.slide, self._step
        if not self.cumulates:
            lengths = (size.days, slide.days, step.days) if step.days else (
                size.months, slide.months, step.months
            )  # fmt: skip
            return SlidingLayout(lengths[0] // lengths[2], lengths[1] // lengths[2])
        if size.months and step.days:
            return MonthsOfDays(size.months)
        return CumulativeLayout(size.days // step.days if step.days else size.months // step.months)

    def key(self) -> list[Key]:
        """Return everything but the unit of time."""
        return [*self.state_key(), self.only_changed]

    def state_key(self) -> list[Key]:
        """Return zone, size, slide and offset."""
        kind = "cumulative calendar" if self.cumulates else "calendar"
        offset = self.offset // dt.timedelta(microseconds=1)
        return [kind, self.zone, str(self.size), str(self.slide), offset]

    def environment(self) -> Key:
        """Return a digest of the clocks of the zone."""
        return self.grid.digest()

    def describe_retention(self) -> str:
        """Return until when slices are kept, and by which clocks."""
        until = "window ends" if not self.overlaps else "last window with them ends"
        until = "period ends" if self.cumulates else until
        return f"until the {until} (clocks of {self.zone}: {self.grid.digest()})"
