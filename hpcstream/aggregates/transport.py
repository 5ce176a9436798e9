"""How accumulators travel between ranks that share a window.

Sums, minima and maxima become int64 columns that an elementwise reduction
merges, whatever the values: a 128-bit sum is sent as two halves that cannot
overflow when added, floats and unsigned numbers as integers of the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hpcstream.aggregates.accumulators import Accumulator, Greatest, IntegerSum, Least, NullCount
from hpcstream.aggregates.group_functions import GroupedValues
from hpcstream.columns.float_order import float_of_order, float_order
from hpcstream.columns.reduction import ColumnReduction
from hpcstream.columns.row_order import NO_PLACES, RowTimes

Values = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]

WINDOW_COLUMN = "__window"
"""Number of the window of a partial row."""

_ORDERING = RowTimes._fields
_LARGEST = 2**63 - 1
_SIGN = np.uint64(1 << 63)


@dataclass(frozen=True)
class SentColumn:
    """One column of partial rows.

    Attributes
    ----------
    name, dtype : str
    reduction : ColumnReduction or None
        How to merge it elementwise, if that gives the right result.
    """

    name: str
    dtype: str
    reduction: ColumnReduction | None


@dataclass(frozen=True)
class Transport:
    """How the words of one accumulator are sent.

    Attributes
    ----------
    columns : tuple of SentColumn
    pack, unpack : (arrays) -> arrays
        From words to columns and back; what comes back is read-only.
    """

    columns: tuple[SentColumn, ...]
    pack: Callable[[Sequence[Values]], list[Values]]
    unpack: Callable[[Sequence[Values]], list[Values]]


def transport_of(accumulator: Accumulator) -> Transport:
    """Return how an accumulator's words are sent."""
    names = [word.name for word in accumulator.words]
    if isinstance(accumulator, NullCount):
        column = SentColumn(names[0], "int64", ColumnReduction("sum", 0))
        return Transport((column,), list, list)
    if isinstance(accumulator, IntegerSum):
        halves = tuple(SentColumn(name, "int64", ColumnReduction("sum", 0)) for name in names)
        return Transport(halves, split_sums, join_sums)
    if isinstance(accumulator, Least | Greatest):
        return _transport_of_extreme(accumulator, names[0])
    columns = tuple(SentColumn(word.name, word.dtype, None) for word in accumulator.words)
    return Transport(columns, list, list)


def _transport_of_extreme(accumulator: Least | Greatest, name: str) -> Transport:
    is_least = isinstance(accumulator, Least)
    identity = _LARGEST if is_least else -_LARGEST - 1
    reduction = ColumnReduction("min" if is_least else "max", identity)
    column = (SentColumn(name, "int64", reduction),)
    if accumulator.dtype == "float64":
        return Transport(
            column,
            lambda words: [float_order(words[0])],
            lambda sent: [float_of_order(sent[0])],
        )
    if accumulator.dtype == "uint64":
        return Transport(
            column,
            lambda words: [(words[0] ^ _SIGN).view(np.int64)],
            lambda sent: [_frozen(sent[0].view(np.uint64) ^ _SIGN)],
        )
    return Transport(column, list, list)


def split_sums(words: Sequence[Values]) -> list[Values]:
    """Return 128-bit sums as (upper, lower) with 32 bits in the lower part.

    Up to 2**31 of them can be added without overflow, if the whole fits.
    """
    sums, carries = words
    return [(carries << 32) + (sums >> 32), sums & 0xFFFFFFFF]


def join_sums(sent: Sequence[Values]) -> list[Values]:
    """Return 128-bit sums from (upper, lower), which may have been added up."""
    upper, lower = sent
    upper = upper + (lower >> 32)
    sums = (upper << 32) | (lower & 0xFFFFFFFF)
    return [_frozen(sums), _frozen((upper - (sums >> 32)) >> 32)]


def list_fields(name: str, data_type: pa.DataType, *, needs_times: bool) -> list[pa.Field]:
    """Return the fields of `list_columns` for a column."""
    fields = [pa.field(f"values({name})", pa.list_(data_type))]
    if needs_times:
        fields += [pa.field(f"{of}({name})", pa.list_(pa.int64())) for of in _ORDERING]
    return fields


def list_columns(rows: GroupedValues, *, needs_times: bool) -> list[pa.Array]:
    """Return kept values as one list per group, in the order in which they came."""
    by_group = np.argsort(rows.groups, kind="stable")
    counts = np.bincount(rows.groups, minlength=rows.n_groups)
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    flat = [rows.values.take(pa.array(by_group))]
    if needs_times:
        flat += [pa.array(values) for values in rows.when.take(by_group)]
    return [pa.ListArray.from_arrays(offsets, values) for values in flat]


def values_of_lists(
    batch: pa.RecordBatch, name: str, needs_times: bool
) -> tuple[pa.Array, Ints, RowTimes]:
    """Return the values of `list_columns`, how many each row has, and by what they are ordered."""
    lists = batch.column(f"values({name})")
    lengths = lists.value_lengths().to_numpy()
    if not needs_times:
        return lists.flatten(), lengths, RowTimes(NO_PLACES, NO_PLACES, NO_PLACES)
    when = (batch.column(f"{of}({name})").flatten().to_numpy() for of in _ORDERING)
    return lists.flatten(), lengths, RowTimes(*when)


def _frozen(array: Values) -> Values:
    array.setflags(write=False)
    return array
