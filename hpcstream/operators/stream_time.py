"""The event time of a stream in a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import pyarrow as pa

from hpcstream.columns.event_time import TimeUnit
from hpcstream.expressions.expression import Expression


class EventClock(NamedTuple):
    """A watermark that an operator generates: the unit of its times, and its delay in ticks."""

    unit: str
    delay: int


@dataclass(frozen=True)
class EventTime:
    """The event time of a stream, stored in a hidden column independent of the user's columns.

    Attributes
    ----------
    column : str or None
        The user's column with the same values; None: there is none, or none any more.
    unit : TimeUnit
        The length of one tick.
    data_type : pyarrow.DataType
        Type of the column it was read from, and so of ``window_start`` and ``window_end``.
    shift : int
        Event time is the column plus this number of ticks: -1 after windows.
    """

    column: str | None
    unit: TimeUnit
    data_type: pa.DataType
    shift: int = 0

    def behind(self, columns: Sequence[tuple[str, Expression]]) -> EventTime:
        """Return the event time after a projection to ``columns``."""
        holders = [n for n, e in columns if e.is_column and e.columns() == {self.column}]
        held = self.column in holders
        return self if held else replace(self, column=holders[0] if holders else None)

    def describe(self) -> str:
        """Return a short description for `explain`."""
        held = "in no column" if self.column is None else repr(self.column)
        shift = f" {self.shift:+d}" if self.shift and self.column else ""
        return f"event time {held}{shift} [{self.unit.name}]"

    def beside(self, other: EventTime | None) -> EventTime:
        """Return the event time of a union with a stream of event time ``other``."""
        if other is not None and (other.column, other.shift) == (self.column, self.shift):
            return self
        return replace(self, column=None)
