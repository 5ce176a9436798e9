"""The least and the greatest value."""

from __future__ import annotations

import math
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
    Words,
    frozen,
    word_kernels,
)
from hpcstream.aggregates.base import (
    Aggregate,
    Entries,
    Inputs,
    is_nested,
    result_array,
    word_dtype,
)
from hpcstream.aggregates.float_order import float_of_order, float_order
from hpcstream.aggregates.grouped_values import GroupedValues
from hpcstream.columns.reduction import ColumnReduction
from hpcstream.state.arrays import Word

_LARGEST = 2**63 - 1
_SIGN = np.uint64(1 << 63)


class _Extreme(Aggregate):
    """The least or greatest value; NaN is greater than any number."""

    returns_input: ClassVar[bool] = True
    distinct_suffices: ClassVar[bool] = True
    is_method: ClassVar[bool] = True

    def result_type(self, types: Sequence[pa.DataType]) -> pa.DataType:
        """Return the type of the input."""
        (given,) = types
        if is_nested(given) or given in (pa.null(), pa.month_day_nano_interval()):
            raise self.unsuitable(given)
        return given

    def finish(self, entries: Entries, inputs: Inputs, output_type: pa.DataType) -> pa.Array:
        """Return the extremes."""
        values = entries[inputs.word(self.name)]
        if values.dtype == np.float64:
            values = values + 0.0  # -0.0 equals 0.0: the result must not depend on row order
        return result_array(values, inputs.n_values(entries) > 0, output_type)

    def from_values(self, rows: GroupedValues) -> pa.Array:
        """Return the extremes."""
        if not pa.types.is_floating(rows.values.type):
            return rows.by_arrow(rows.values, self.name)
        ordered = pa.array(float_order(rows.floats() + 0.0))  # Arrow would ignore NaN
        found = rows.by_arrow(ordered, self.name)
        values = float_of_order(found.fill_null(0).to_numpy())
        return pa.array(values, mask=found.is_null().to_numpy(zero_copy_only=False))


@dataclass(frozen=True)
class Min(_Extreme):
    """The least value."""

    name: ClassVar[str] = "min"

    def accumulators(self, inputs: Inputs) -> tuple[Accumulator, ...] | None:
        """Return the least value."""
        if not inputs.are_words:
            return None
        return NullCount(inputs.names), Least(inputs.names, word_dtype(inputs.types[0]))


@dataclass(frozen=True)
class Max(_Extreme):
    """The greatest value."""

    name: ClassVar[str] = "max"

    def accumulators(self, inputs: Inputs) -> tuple[Accumulator, ...] | None:
        """Return the greatest value."""
        if not inputs.are_words:
            return None
        return NullCount(inputs.names), Greatest(inputs.names, word_dtype(inputs.types[0]))


@dataclass(frozen=True)
class Least(Accumulator):
    """The least value; NaN is greater than any number."""

    columns: tuple[str, ...]
    dtype: str
    takes_ranges: ClassVar[bool] = True

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of state."""
        identity = math.nan if self.dtype == "float64" else int(np.iinfo(self.dtype).max)
        return (Word(self.word_name("min"), self.dtype, identity),)

    def update(self, state: Words, rows: InputRows) -> None:
        """Accumulate rows."""
        self.merge(state, rows.slots, (rows.values,))

    def merge(self, state: Words, slots: Targets, parts: Words) -> None:
        """Merge partial results."""
        kernels = word_kernels()
        keep = kernels.keep_least_float if self.dtype == "float64" else kernels.keep_least
        keep(slots, parts[0], state[0])

    @property
    def transport(self) -> Transport:
        """One column of int64 in the same order."""
        return _in_order(self.words[0], ColumnReduction("min", _LARGEST))


@dataclass(frozen=True)
class Greatest(Accumulator):
    """The greatest value; NaN is greater than any number."""

    columns: tuple[str, ...]
    dtype: str
    takes_ranges: ClassVar[bool] = True

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of state."""
        identity = -math.inf if self.dtype == "float64" else int(np.iinfo(self.dtype).min)
        return (Word(self.word_name("max"), self.dtype, identity),)

    def update(self, state: Words, rows: InputRows) -> None:
        """Accumulate rows."""
        self.merge(state, rows.slots, (rows.values,))

    def merge(self, state: Words, slots: Targets, parts: Words) -> None:
        """Merge partial results."""
        kernels = word_kernels()
        keep = kernels.keep_greatest_float if self.dtype == "float64" else kernels.keep_greatest
        keep(slots, parts[0], state[0])

    @property
    def transport(self) -> Transport:
        """One column of int64 in the same order."""
        return _in_order(self.words[0], ColumnReduction("max", -_LARGEST - 1))


def _in_order(word: Word, reduction: ColumnReduction) -> Transport:
    """Return the transport of values as int64 in the order of the values."""
    column = (SentColumn(word.name, "int64", reduction),)
    if word.dtype == "float64":
        return Transport(
            column,
            lambda words: [float_order(words[0])],
            lambda sent: [float_of_order(sent[0])],
        )
    if word.dtype == "uint64":
        return Transport(
            column,
            lambda words: [(words[0] ^ _SIGN).view(np.int64)],
            lambda sent: [frozen(sent[0].view(np.uint64) ^ _SIGN)],
        )
    return Transport(column)
