"""The event time of a stream, as a plan knows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import pyarrow as pa

from hpcstream.columns.event_time import TimeUnit
from hpcstream.expressions.expression import Expression


class EventClock(NamedTuple):
    """A watermark that begins at an operator: the unit of its times, and its delay in ticks."""

    unit: str
    delay: int


@dataclass(frozen=True)
class EventTime:
    """What a stream's event time is. It travels beside the columns, whatever becomes of these.

    Attributes
    ----------
    column : str or None
        The user's column that holds it; None: no column does any more.
    unit : TimeUnit
        What one tick is.
    data_type : pyarrow.DataType
        Type of the column it was taken from, and so of ``window_start`` and ``window_end``.
    shift : int
        Event time is the column plus so many ticks: -1 behind windows.
    """

    column: str | None
    unit: TimeUnit
    data_type: pa.DataType
    shift: int = 0

    def behind(self, columns: Sequence[tuple[str, Expression]]) -> EventTime:
        """Return the same event time where a projection to ``columns`` has passed."""
        holders = [n for n, e in columns if e.is_column and e.columns() == {self.column}]
        held = self.column in holders
        return self if held else replace(self, column=holders[0] if holders else None)

    def describe(self) -> str:
        """Return a few words for `explain` and the like."""
        held = "in no column" if self.column is None else repr(self.column)
        shift = f" {self.shift:+d}" if self.shift and self.column else ""
        return f"event time {held}{shift} [{self.unit.name}]"

    def beside(self, other: EventTime | None) -> EventTime:
        """Return the event time of a union with a stream of another."""
        if other is not None and (other.column, other.shift) == (self.column, self.shift):
            return self
        return replace(self, column=None)
