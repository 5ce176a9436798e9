"""The first and the last event time of an entry, by which sessions end."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

from hpcstream.aggregates.accumulator import Accumulator, InputRows, Targets, Words
from hpcstream.columns.event_time import MAX_TIME, MIN_TIME, TIME_COLUMN
from hpcstream.state.arrays import Word


@functools.cache
def _kernels() -> ModuleType:
    """Return the kernels; the first call loads Numba."""
    from hpcstream.kernels import sessions

    return sessions


@dataclass(frozen=True)
class TimeSpan(Accumulator):
    """The least and the greatest event time of an entry's rows."""

    columns: tuple[str, ...] = (TIME_COLUMN,)
    takes_ranges: ClassVar[bool] = True

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of state: first and last."""
        names = map(self.word_name, ("min", "max"))
        ends = (MAX_TIME, MIN_TIME)
        return tuple(Word(name, "int64", end) for name, end in zip(names, ends, strict=True))

    def update(self, state: Words, rows: InputRows) -> None:
        """Take in rows."""
        _kernels().keep_span(rows.slots, rows.values, rows.values, *state)

    def merge(self, state: Words, slots: Targets, parts: Words) -> None:
        """Take in partial results."""
        _kernels().keep_span(slots, *parts, *state)
