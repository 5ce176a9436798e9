"""Which key columns of the two sides of a join can be compared."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.columns.arrays import LARGE_TYPE_OF_VIEW, can_be_key, stored_type
from hpcstream.errors import PlanError
from hpcstream.expressions.binding import unknown_column


def check_join_keys(
    stream_schema: pa.Schema,
    table_schema: pa.Schema,
    left_on: Sequence[str],
    right_on: Sequence[str],
) -> None:
    """Check that the keys of a stream and a table exist and can be compared.

    Integers of different width compare, as do strings and large strings, and a
    dictionary with its plain values.

    Raises
    ------
    PlanError
        They do not; names both types.
    """
    for left, right in zip(left_on, right_on, strict=True):
        for name, schema in ((left, stream_schema), (right, table_schema)):
            if name not in schema.names:
                raise unknown_column(name, schema)
        left_type, right_type = stream_schema.field(left).type, table_schema.field(right).type
        kind = _kind(left_type)
        if kind is None or kind != _kind(right_type):
            raise PlanError(
                f"join_table: the stream's {left!r} is {left_type} and the table's {right!r} is "
                f"{right_type}, which cannot be compared as keys; cast one of them"
            )


def _kind(data_type: pa.DataType) -> str | None:
    """Return a name that types have in common whose equal values have equal keys."""
    types = pa.types
    if types.is_dictionary(data_type):
        return _kind(data_type.value_type)
    data_type = stored_type(data_type)
    if types.is_integer(data_type):
        return "uint64" if types.is_uint64(data_type) else "integer"
    if types.is_floating(data_type):
        return "float"
    if types.is_string(data_type) or types.is_large_string(data_type):
        return "string"
    if types.is_binary(data_type) or types.is_large_binary(data_type):
        return "binary"
    if data_type in (pa.string_view(), pa.binary_view()):
        return "string" if data_type == pa.string_view() else "binary"
    if types.is_timestamp(data_type):
        return f"timestamp[{data_type.unit}, zone {data_type.tz is not None}]"
    if types.is_decimal(data_type):
        return f"decimal{data_type.bit_width} of scale {data_type.scale}"
    return str(data_type) if can_be_key(data_type) else None


def without_null_keys(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    """Return the rows of a table whose keys are not null; a dictionary may have a null value."""
    for name in keys:
        at, column = table.schema.get_field_index(name), table[name]
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        elif column.type in LARGE_TYPE_OF_VIEW:
            column = column.cast(LARGE_TYPE_OF_VIEW[column.type])
        table = table.set_column(at, name, column)
        if column.null_count:
            table = table.take(pc.indices_nonzero(column.is_valid()))
    return table
