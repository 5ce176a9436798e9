"""State words of the built-in aggregates: how rows enter them and how parts merge.

An accumulator owns some words of each entry of a `SliceStore`. Aggregates
share them: ``sum(x)`` and ``mean(x)`` read the same sum. The number of rows is
kept by the store; how many of them had a null in ``x`` is an accumulator of its
own, which batches without nulls never touch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hpcstream.columns.arrays import fixed_values, validity
from hpcstream.columns.event_time import MAX_TIME, MIN_TIME
from hpcstream.columns.row_order import RowTimes
from hpcstream.kernels import accumulate
from hpcstream.state.arrays import Slots, Word

Values = npt.NDArray[Any]
Words = Sequence[Values]
Targets = Slots | np.uint64
"""Where partial results go: their slots, or the slot of the first of a row of them."""


@dataclass(frozen=True, slots=True)
class ColumnRows:
    """One input column of a batch, ready for kernels.

    Attributes
    ----------
    values : int64[n], uint64[n] or float64[n]
        Empty if only nulls are counted.
    valid : bool[n] or None
    slots : uint32[n]
        Where each row goes; rows with a null go to slot 0.
    all_slots : uint32[n]
        Where each row goes, nulls too.
    when : RowTimes
        By what the rows are ordered.
    """

    values: Values
    valid: npt.NDArray[np.bool_] | None
    slots: Slots
    all_slots: Slots
    when: RowTimes


class Accumulator(Protocol):
    """A few words of state and the two ways into them."""

    @property
    def words(self) -> tuple[Word, ...]:
        """The words, in the order in which `update` and `merge` get them."""

    @property
    def column(self) -> str:
        """The input column."""

    def update(self, state: Words, rows: ColumnRows) -> None:
        """Take in the rows of a batch."""

    def merge(self, state: Words, slots: Targets, parts: Words) -> None:
        """Take in partial results, one for each of ``slots``, or for as many from one slot on."""


@dataclass(frozen=True)
class NullCount:
    """How many rows had a null."""

    column: str

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of state."""
        return (Word(f"nulls({self.column})", "int64", 0),)

    def update(self, state: Words, rows: ColumnRows) -> None:
        """Take in rows."""
        if rows.valid is not None:
            accumulate.count_nulls(rows.all_slots, rows.valid, state[0])

    def merge(self, state: Words, slots: Targets, parts: Words) -> None:
        """Take in partial results."""
        accumulate.add_counts(slots, parts[0], state[0])


@dataclass(frozen=True)
class IntegerSum:
    """A sum in 128 bits, so that only the final value can overflow."""

    column: str

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of state."""
        return (
            Word(f"sum({self.column})", "int64", 0),
            Word(f"carry({self.column})", "int64", 0),
        )

    def update(self, state: Words, rows: ColumnRows) -> None:
        """Take in rows."""
        if rows.values.dtype == np.uint64:
            accumulate.add_unsigned(rows.slots, rows.values, state[0], state[1])
        else:
            accumulate.add_integers(rows.slots, rows.values, state[0], state[1])

    def merge(self, state: Words, slots: Targets, parts: Words) -> None:
        """Take in partial results."""
        accumulate.add_integers(slots, parts[0], state[0], state[1])
        if parts[1].any():
            accumulate.add_counts(slots, parts[1], state[1])


@dataclass(frozen=True)
class FloatSum:
    """A plain float sum, in row order."""

    column: str

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of state."""
        return (Word(f"sum({self.column})", "float64", 0.0),)

    def update(self, state: Words, rows: ColumnRows) -> None:
        """Take in rows."""
        accumulate.add_floats(rows.slots, rows.values, state[0])

    def merge(self, state: Words, slots: Targets, parts: Words) -> None:
        """Take in partial results."""
        accumulate.add_floats(slots, parts[0], state[0])


@dataclass(frozen=True)
class Least:
    """The least value; NaN is greater than any number."""

    column: str
    dtype: str

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of state."""
        identity = math.nan if self.dtype == "float64" else int(np.iinfo(self.dtype).max)
        return (Word(f"min({self.column})", self.dtype, identity),)

    def update(self, state: Words, rows: ColumnRows) -> None:
        """Take in rows."""
        self.merge(state, rows.slots, (rows.values,))

    def merge(self, state: Words, slots: Targets, parts: Words) -> None:
        """Take in partial results."""
        if self.dtype == "float64":
            accumulate.keep_least_float(slots, parts[0], state[0])
        else:
            accumulate.keep_least(slots, parts[0], state[0])


@dataclass(frozen=True)
class Greatest:
    """The greatest value; NaN is greater than any number."""

    column: str
    dtype: str

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of state."""
        identity = -math.inf if self.dtype == "float64" else int(np.iinfo(self.dtype).min)
        return (Word(f"max({self.column})", self.dtype, identity),)

    def update(self, state: Words, rows: ColumnRows) -> None:
        """Take in rows."""
        self.merge(state, rows.slots, (rows.values,))

    def merge(self, state: Words, slots: Targets, parts: Words) -> None:
        """Take in partial results."""
        if self.dtype == "float64":
            accumulate.keep_greatest_float(slots, parts[0], state[0])
        else:
            accumulate.keep_greatest(slots, parts[0], state[0])


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations, for variances."""

    column: str

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of state."""
        return tuple(
            Word(f"{name}({self.column})", "float64", 0.0) for name in ("n", "average", "squares")
        )

    def update(self, state: Words, rows: ColumnRows) -> None:
        """Take in rows."""
        values = rows.values
        if values.dtype != np.float64:
            values = _frozen(values.astype(np.float64))
        accumulate.add_moments(rows.slots, values, *state)

    def merge(self, state: Words, slots: Targets, parts: Words) -> None:
        """Take in partial results."""
        accumulate.merge_moments(slots, *parts, *state)


@dataclass(frozen=True)
class FirstValue:
    """The value of the least (event time, order) among those that are not null.

    Attributes
    ----------
    is_placed : bool
        Rows have places (`PLACE_COLUMN`), by which those of one order go.
    """

    column: str
    is_placed: bool = False

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of state."""
        return _edge_words("first", self.column, MAX_TIME, self.is_placed)

    def update(self, state: Words, rows: ColumnRows) -> None:
        """Take in rows."""
        self.merge(state, rows.slots, _edge_parts(rows, self.is_placed))

    def merge(self, state: Words, slots: Targets, parts: Words) -> None:
        """Take in partial results."""
        if self.is_placed:
            accumulate.keep_first_placed(slots, tuple(parts), tuple(state))
        else:
            accumulate.keep_first(slots, *parts, *state)


@dataclass(frozen=True)
class LastValue:
    """The value of the greatest (event time, order), as in `FirstValue`."""

    column: str
    is_placed: bool = False

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of state."""
        return _edge_words("last", self.column, MIN_TIME, self.is_placed)

    def update(self, state: Words, rows: ColumnRows) -> None:
        """Take in rows."""
        self.merge(state, rows.slots, _edge_parts(rows, self.is_placed))

    def merge(self, state: Words, slots: Targets, parts: Words) -> None:
        """Take in partial results."""
        if self.is_placed:
            accumulate.keep_last_placed(slots, tuple(parts), tuple(state))
        else:
            accumulate.keep_last(slots, *parts, *state)


def _edge_words(function: str, column: str, outermost: int, is_placed: bool) -> tuple[Word, ...]:
    ordering = ("time", "order", "place") if is_placed else ("time", "order")
    words = (Word(f"{function}_{name}({column})", "int64", outermost) for name in ordering)
    return (*words, Word(f"{function}({column})", "int64", 0))


def _edge_parts(rows: ColumnRows, is_placed: bool) -> Words:
    bits = rows.values.view(np.int64)
    when = rows.when
    if is_placed:
        return when.times, when.orders, when.places, bits
    return when.times, when.orders, bits


def word_values(array: pa.Array) -> Values:
    """Return a column's values as int64, uint64 or float64, read-only."""
    values = fixed_values(array)
    if values.dtype.itemsize == 8:
        return values
    return _frozen(values.astype(np.float64 if values.dtype.kind == "f" else np.int64))


def column_rows(array: pa.Array, slots: Slots, when: RowTimes, *, only_nulls: bool) -> ColumnRows:
    """Return a column of a batch as accumulators take it."""
    valid = validity(array)
    if only_nulls:
        return ColumnRows(_NO_VALUES, valid, slots, slots, when)
    column_slots = slots
    if valid is not None:
        column_slots = np.empty_like(slots)
        accumulate.mask_slots(slots, valid, column_slots)
    return ColumnRows(word_values(array), valid, column_slots, slots, when)


_NO_VALUES = np.zeros(0, dtype=np.int64)


def _frozen(array: Values) -> Values:
    array.setflags(write=False)
    return array
