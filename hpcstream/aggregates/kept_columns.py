"""Columns whose values are kept until a window closes, for the aggregates that read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from hpcstream.aggregates.base import value_type
from hpcstream.aggregates.named import NamedAggregate
from hpcstream.columns.arrays import stored_type


@dataclass(frozen=True)
class KeptColumns:
    """One or several input columns whose values are kept together.

    Attributes
    ----------
    inputs : tuple of str
    type : pa.DataType
        Of the values: that of the column, or a struct with a field for each.
    needs_times : bool
        Whether an order is kept with them.
    distinct_suffices : bool
        Whether repeated values may be thrown away.
    """

    inputs: tuple[str, ...]
    type: pa.DataType
    needs_times: bool
    distinct_suffices: bool

    @classmethod
    def of(cls, schema: pa.Schema, readers: Sequence[NamedAggregate]) -> KeptColumns:
        """Return the columns that some aggregates read, all the same ones."""
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
        """Under which the values are in a snapshot."""
        return ", ".join(self.inputs)

    def values_of(self, columns: Sequence[pa.Array]) -> pa.Array:
        """Return the values of some rows, none of which is null, as they are kept."""
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
    """Return the type as which values of a column are kept: one that Arrow can take and group."""
    values = stored_type(value_type(data_type))
    if values == pa.string_view():
        return pa.large_string()
    if values == pa.binary_view():
        return pa.large_binary()
    if pa.types.is_decimal32(values) or pa.types.is_decimal64(values):
        return pa.decimal128(values.precision, values.scale)
    return pa.float32() if pa.types.is_float16(values) else values
