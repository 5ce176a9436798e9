"""Columns whose values are kept until a window closes, for holistic aggregates.

Ranks that share a window exchange the values as lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hpcstream.aggregates.base import value_type
from hpcstream.aggregates.grouped_values import GroupedValues
from hpcstream.aggregates.named import NamedAggregate
from hpcstream.columns.arrays import stored_type
from hpcstream.columns.row_order import NO_PLACES, RowTimes

Ints = npt.NDArray[np.int64]

WINDOW_COLUMN = "__window"
"""Number of the window of a partial row."""

_ORDERING = RowTimes._fields


@dataclass(frozen=True)
class KeptColumns:
    """One or several input columns whose values are kept together.

    Attributes
    ----------
    inputs : tuple of str
    type : pa.DataType
        Type of the values: that of the column, or a struct with a field for each.
    needs_times : bool
        Whether the sort keys of rows are kept with them.
    distinct_suffices : bool
        Whether duplicate values may be removed.
    """

    inputs: tuple[str, ...]
    type: pa.DataType
    needs_times: bool
    distinct_suffices: bool

    @classmethod
    def of(cls, schema: pa.Schema, readers: Sequence[NamedAggregate]) -> KeptColumns:
        """Return the columns of aggregates that all have the same inputs."""
        inputs = readers[0].inputs
        types = [kept_type(schema.field(name).type) for name in inputs]
        fields = [pa.field(str(number), each) for number, each in enumerate(types)]
        return cls(
            inputs=inputs,
            type=types[0] if len(types) == 1 else pa.struct(fields),
            needs_times=any(each.aggregate.needs_order for each in readers),
            distinct_suffices=all(each.aggregate.distinct_suffices for each in readers),
        )

    @property
    def name(self) -> str:
        """The name of the values in snapshots."""
        return ", ".join(self.inputs)

    def values_of(self, columns: Sequence[pa.Array]) -> pa.Array:
        """Return the values of rows without nulls in the type in which they are kept."""
        if len(columns) == 1:
            return _kept(columns[0], self.type)
        fields = list(self.type)
        arrays = [_kept(c, field.type) for c, field in zip(columns, fields, strict=True)]
        return pa.StructArray.from_arrays(arrays, fields=fields)


def _kept(column: pa.Array, data_type: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column if column.type == data_type else column.cast(data_type)


def kept_type(data_type: pa.DataType) -> pa.DataType:
    """Return the type in which values of a column are kept, which Arrow can take and group."""
    values = stored_type(value_type(data_type))
    if values == pa.string_view():
        return pa.large_string()
    if values == pa.binary_view():
        return pa.large_binary()
    if pa.types.is_decimal32(values) or pa.types.is_decimal64(values):
        return pa.decimal128(values.precision, values.scale)
    return pa.float32() if pa.types.is_float16(values) else values


def list_fields(name: str, data_type: pa.DataType, *, needs_times: bool) -> list[pa.Field]:
    """Return the fields of `list_columns` for a column."""
    fields = [pa.field(f"values({name})", pa.list_(data_type))]
    if needs_times:
        fields += [pa.field(f"{of}({name})", pa.list_(pa.int64())) for of in _ORDERING]
    return fields


def list_columns(rows: GroupedValues, *, needs_times: bool) -> list[pa.Array]:
    """Return kept values as one list per group, in order of arrival."""
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
    """Return the values of `list_columns`, the length of each list, and the sort keys."""
    lists = batch.column(f"values({name})")
    lengths = lists.value_lengths().to_numpy()
    if not needs_times:
        return lists.flatten(), lengths, RowTimes(NO_PLACES, NO_PLACES, NO_PLACES)
    when = (batch.column(f"{of}({name})").flatten().to_numpy() for of in _ORDERING)
    return lists.flatten(), lengths, RowTimes(*when)
