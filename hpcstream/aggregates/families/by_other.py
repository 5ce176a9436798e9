"""The value of a column in the row in which another column is least or greatest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from hpcstream.aggregates.accumulator import (
    Accumulator,
    InputRows,
    NullCount,
    Targets,
    Values,
    Words,
    frozen,
    word_kernels,
)
from hpcstream.aggregates.base import Aggregate, Entries, Inputs, is_nested, result_array
from hpcstream.aggregates.families.first_last import edges_of_groups, value_ranks
from hpcstream.aggregates.float_order import float_order
from hpcstream.aggregates.grouped_values import GroupedValues, Ints, as_floats
from hpcstream.columns.event_time import MAX_TIME
from hpcstream.state.arrays import Word

_LARGEST = 2**63 - 1
_SIGN = np.uint64(1 << 63)


class _ArgExtreme(Aggregate):
    """The first input in the first row in which the second input is extreme.

    Rows with a null in either input are ignored; NaN is greater than any number.
    """

    is_greatest: ClassVar[bool]
    n_inputs: ClassVar[int] = 2
    needs_order: ClassVar[bool] = True
    returns_input: ClassVar[bool] = True
    is_method: ClassVar[bool] = True

    def result_type(self, types: Sequence[pa.DataType]) -> pa.DataType:
        """Return the type of the first input."""
        value, by = types
        if is_nested(by) or by in (pa.null(), pa.month_day_nano_interval()):
            raise self.unsuitable(by)
        return value

    def accumulators(self, inputs: Inputs) -> tuple[Accumulator, ...] | None:
        """Return the accumulator of the extreme row."""
        if not inputs.are_words:
            return None
        return NullCount(inputs.names), ExtremeRow(inputs.names, self.is_greatest)

    def finish(self, entries: Entries, inputs: Inputs, output_type: pa.DataType) -> pa.Array:
        """Return the values."""
        bits = entries[inputs.word(self.name)]
        values = bits.view(np.float64) if pa.types.is_floating(output_type) else bits
        return result_array(values, inputs.n_values(entries) > 0, output_type)

    def from_values(self, rows: GroupedValues) -> pa.Array:
        """Return the values."""
        values, by = rows.values.field(0), rows.values.field(1)
        ranks = float_order(as_floats(by) + 0.0) if _is_float(by) else value_ranks(by)
        ranks = ~ranks if self.is_greatest else ranks
        keys = (rows.when.orders, rows.when.times, ranks, rows.groups)
        at = edges_of_groups(keys, values, rows.n_groups, last=False)
        return values.take(pa.array(at, mask=at < 0))


@dataclass(frozen=True)
class ArgMin(_ArgExtreme):
    """The value where another column is least."""

    name: ClassVar[str] = "arg_min"
    is_greatest: ClassVar[bool] = False


@dataclass(frozen=True)
class ArgMax(_ArgExtreme):
    """The value where another column is greatest."""

    name: ClassVar[str] = "arg_max"
    is_greatest: ClassVar[bool] = True


@dataclass(frozen=True)
class ExtremeRow(Accumulator):
    """The value of the row with the least (other column, event time, order, value).

    The other column is stored as int64 in its order, inverted for the greatest.
    """

    columns: tuple[str, ...]
    is_greatest: bool
    takes_ranges: ClassVar[bool] = True

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of state."""
        function = "arg_max" if self.is_greatest else "arg_min"
        names = [self.word_name(f"{function}_{part}") for part in ("by", "time", "order")]
        keys = zip(names, (_LARGEST, MAX_TIME, MAX_TIME), strict=True)
        ordering = (Word(name, "int64", outermost) for name, outermost in keys)
        return (*ordering, Word(self.word_name(function), "int64", 0))

    def update(self, state: Words, rows: InputRows) -> None:
        """Accumulate rows."""
        values, by = rows.columns
        keys = frozen(_inverted(by) if self.is_greatest else _in_order(by))
        when = rows.when
        self.merge(state, rows.slots, (keys, when.times, when.orders, values.view(np.int64)))

    def merge(self, state: Words, slots: Targets, parts: Words) -> None:
        """Merge partial results."""
        word_kernels().keep_first_placed(slots, tuple(parts), tuple(state))


def _is_float(values: pa.Array) -> bool:
    return bool(pa.types.is_floating(values.type))


def _in_order(values: Values) -> Ints:
    """Return int64 in the order of values: a copy or a read-only view."""
    if values.dtype == np.float64:
        return float_order(values + 0.0)  # zeros are equal
    return (values ^ _SIGN).view(np.int64) if values.dtype == np.uint64 else values.view()


def _inverted(values: Values) -> Ints:
    return ~_in_order(values)
