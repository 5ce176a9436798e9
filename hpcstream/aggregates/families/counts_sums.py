"""Counts, sums and means."""

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
    SentColumn,
    Targets,
    Transport,
    Values,
    Words,
    frozen,
    word_kernels,
)
from hpcstream.aggregates.base import (
    Aggregate,
    AggregateCall,
    Entries,
    Inputs,
    result_array,
    word_dtype,
)
from hpcstream.aggregates.families.exact_sums import ExactSum, MayBeExact, rounded
from hpcstream.aggregates.grouped_values import Floats, GroupedValues, as_floats
from hpcstream.calls import answers_wrong_call
from hpcstream.columns.reduction import ColumnReduction
from hpcstream.errors import OverflowInAggregate
from hpcstream.state.arrays import Word

_DECIMAL_DIGITS = 38
_DECIMAL256_DIGITS = 76


@dataclass(frozen=True)
class CountRows(Aggregate):
    """The number of rows, nulls included."""

    name: ClassVar[str] = "count_rows"
    n_inputs: ClassVar[int] = 0
    is_method: ClassVar[bool] = True

    def result_type(self, types: Sequence[pa.DataType]) -> pa.DataType:
        """Return int64."""
        return pa.int64()

    def accumulators(self, inputs: Inputs) -> tuple[Accumulator, ...]:
        """Return none: the store counts rows."""
        return ()

    def finish(self, entries: Entries, inputs: Inputs, output_type: pa.DataType) -> pa.Array:
        """Return the counts."""
        return pa.array(entries["rows"])


@answers_wrong_call
def count() -> AggregateCall:
    """Return the number of rows, nulls included.

    ``col(name).count()`` counts the values that are not null.
    """
    return AggregateCall(CountRows())


@dataclass(frozen=True)
class Count(Aggregate):
    """The number of values that are not null."""

    name: ClassVar[str] = "count"
    is_method: ClassVar[bool] = True

    def result_type(self, types: Sequence[pa.DataType]) -> pa.DataType:
        """Return int64."""
        return pa.int64()

    def accumulators(self, inputs: Inputs) -> tuple[Accumulator, ...]:
        """Return the count of nulls."""
        return (NullCount(inputs.names),)

    def finish(self, entries: Entries, inputs: Inputs, output_type: pa.DataType) -> pa.Array:
        """Return the counts."""
        return pa.array(inputs.n_values(entries))


class _OfSum(MayBeExact):
    """An aggregate made of the sum."""

    def accumulators(self, inputs: Inputs) -> tuple[Accumulator, ...] | None:
        """Return the sum."""
        return sum_words(inputs, exact=self.exact)

    def is_order_free(self, inputs: Inputs) -> bool:
        """Whether sums are exact: those of integers always are."""
        return self.exact or not pa.types.is_floating(inputs.types[0])


@dataclass(frozen=True)
class Sum(_OfSum):
    """The sum; integer overflow raises, decimals get the greatest precision.

    Attributes
    ----------
    exact : bool
        Sum floats without rounding, and round the result once.
    """

    exact: bool = False
    name: ClassVar[str] = "sum"
    is_method: ClassVar[bool] = True

    def result_type(self, types: Sequence[pa.DataType]) -> pa.DataType:
        """Return int64, float64, a wide decimal, or the duration."""
        (given,) = types
        if pa.types.is_integer(given):
            return pa.int64()
        if pa.types.is_floating(given):
            return pa.float64()
        if pa.types.is_decimal256(given):
            return pa.decimal256(_DECIMAL256_DIGITS, given.scale)
        if pa.types.is_decimal(given):
            return pa.decimal128(_DECIMAL_DIGITS, given.scale)
        if pa.types.is_duration(given):
            return given
        raise self.unsuitable(given)

    def finish(self, entries: Entries, inputs: Inputs, output_type: pa.DataType) -> pa.Array:
        """Return the sums."""
        if is_exact_float(inputs, exact=self.exact):
            sums = rounded(entries[inputs.word("exact_sum")])
            return result_array(sums, inputs.n_values(entries) > 0, output_type)
        sums = entries[inputs.word("sum")]
        carries = entries.get(inputs.word("carry"))
        if carries is not None and carries.any():
            at = int(np.flatnonzero(carries)[0])
            total = int(sums[at]) + (int(carries[at]) << 64)
            raise OverflowInAggregate(
                f"a sum is {total}, outside int64; cast the column to float64 or decimal"
            )
        return result_array(sums, inputs.n_values(entries) > 0, output_type)

    def from_values(self, rows: GroupedValues) -> pa.Array:
        """Return the sums."""
        values = rows.values
        if not pa.types.is_decimal(values.type):
            return rows.by_arrow(values, "sum")
        scale = values.type.scale
        wide = pa.decimal256(_DECIMAL256_DIGITS, scale)
        result = pa.decimal128(38, scale) if pa.types.is_decimal128(values.type) else wide
        _, about = rows.counts_and_sums(as_floats(values))
        if not (np.abs(about) < 10.0 ** (result.precision - scale) * (1 + 1e-9)).all():
            raise _overflow(about, result)
        sums = rows.by_arrow(values.cast(wide), "sum")  # Arrow's narrower sums wrap silently
        try:
            return sums.cast(result)
        except pa.ArrowInvalid:
            raise _overflow(about, result) from None


def _overflow(about: Floats, result: pa.DataType) -> OverflowInAggregate:
    worst = about[np.argmax(np.abs(about))]
    return OverflowInAggregate(
        f"a sum is about {worst:.6g}, outside {result}; cast the column to float64"
    )


@dataclass(frozen=True)
class Mean(_OfSum):
    """The arithmetic mean.

    Attributes
    ----------
    exact : bool
        Sum floats without rounding.
    """

    exact: bool = False
    name: ClassVar[str] = "mean"
    is_method: ClassVar[bool] = True

    def result_type(self, types: Sequence[pa.DataType]) -> pa.DataType:
        """Return float64."""
        return number_type(self, types[0])

    def finish(self, entries: Entries, inputs: Inputs, output_type: pa.DataType) -> pa.Array:
        """Return the means."""
        if is_exact_float(inputs, exact=self.exact):
            totals = rounded(entries[inputs.word("exact_sum")])
        else:
            totals = entries[inputs.word("sum")].astype(np.float64)
        carries = entries.get(inputs.word("carry"))
        if carries is not None and carries.any():
            totals += carries * 2.0**64
        n_values = inputs.n_values(entries)
        return result_array(totals / np.maximum(n_values, 1), n_values > 0, output_type)

    def from_values(self, rows: GroupedValues) -> pa.Array:
        """Return the means."""
        counts, sums = rows.counts_and_sums(rows.floats())
        return pa.array(sums / np.maximum(counts, 1), mask=counts == 0)


def number_type(aggregate: Aggregate, given: pa.DataType) -> pa.DataType:
    """Return float64 for a numeric input; raise for other types."""
    is_number = pa.types.is_integer(given) or pa.types.is_floating(given)
    if is_number or pa.types.is_decimal(given):
        return pa.float64()
    raise aggregate.unsuitable(given)


def sum_words(inputs: Inputs, *, exact: bool) -> tuple[Accumulator, ...] | None:
    """Return the accumulators of a sum and of the number of its values."""
    if not inputs.are_words:
        return None
    is_float = word_dtype(inputs.types[0]) == "float64"
    total: Accumulator = FloatSum(inputs.names) if is_float else IntegerSum(inputs.names)
    if is_exact_float(inputs, exact=exact):
        total = ExactSum(inputs.names)
    return (NullCount(inputs.names), total)


def is_exact_float(inputs: Inputs, *, exact: bool) -> bool:
    """Return whether a sum is an `ExactSum`: an `IntegerSum` is exact by itself."""
    return exact and word_dtype(inputs.types[0]) == "float64"


@dataclass(frozen=True)
class IntegerSum(Accumulator):
    """A 128-bit sum, so that only the final result can overflow."""

    columns: tuple[str, ...]
    takes_ranges: ClassVar[bool] = True

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of state."""
        names = self.word_name("sum"), self.word_name("carry")
        return tuple(Word(name, "int64", 0) for name in names)

    def update(self, state: Words, rows: InputRows) -> None:
        """Accumulate rows."""
        values = rows.values
        kernels = word_kernels()
        add = kernels.add_unsigned if values.dtype == np.uint64 else kernels.add_integers
        add(rows.slots, values, state[0], state[1])

    def merge(self, state: Words, slots: Targets, parts: Words) -> None:
        """Merge partial results."""
        kernels = word_kernels()
        kernels.add_integers(slots, parts[0], state[0], state[1])
        if parts[1].any():
            kernels.add_counts(slots, parts[1], state[1])

    @property
    def transport(self) -> Transport:
        """Two halves whose sums over ranks cannot overflow."""
        reduction = ColumnReduction("sum", 0)
        halves = tuple(SentColumn(word.name, "int64", reduction) for word in self.words)
        return Transport(halves, split_sums, join_sums)


def split_sums(words: Sequence[Values]) -> list[Values]:
    """Return 128-bit sums as (upper, lower) with 32 bits in the lower part.

    Up to 2**31 of them can be added without overflow, if the total fits in 128 bits.
    """
    sums, carries = words
    return [(carries << 32) + (sums >> 32), sums & 0xFFFFFFFF]


def join_sums(sent: Sequence[Values]) -> list[Values]:
    """Return 128-bit sums from (upper, lower), which may be sums over ranks."""
    upper, lower = sent
    upper = upper + (lower >> 32)
    sums = (upper << 32) | (lower & 0xFFFFFFFF)
    return [frozen(sums), frozen((upper - (sums >> 32)) >> 32)]


@dataclass(frozen=True)
class FloatSum(Accumulator):
    """A plain float sum, in row order."""

    columns: tuple[str, ...]
    takes_ranges: ClassVar[bool] = True

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of state."""
        return (Word(self.word_name("sum"), "float64", 0.0),)

    def update(self, state: Words, rows: InputRows) -> None:
        """Accumulate rows."""
        word_kernels().add_floats(rows.slots, rows.values, state[0])

    def merge(self, state: Words, slots: Targets, parts: Words) -> None:
        """Merge partial results."""
        word_kernels().add_floats(slots, parts[0], state[0])
