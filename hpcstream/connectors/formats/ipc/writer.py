"""Arrow IPC files whose dictionaries grow from block to block."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from hpcstream.columns.types.plain_nested import nested_column
from hpcstream.connectors.formats.parquet.written import has_dictionary
from hpcstream.connectors.formats.part_format import PartWriter


class IpcWriter(PartWriter):
    """Makes the dictionaries of later blocks continue those of earlier ones.

    The file format allows a dictionary to grow, not to be replaced.
    """

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self._so_far: dict[int, pa.Array] = {}

    def write_table(self, table: pa.Table) -> None:
        """Append rows as one block."""
        for i, field in enumerate(table.schema):
            if has_dictionary(field.type) and table.num_rows:
                table = table.set_column(i, field, self._continued(i, table.column(i)))
        self._writer.write_table(table)

    def close(self) -> None:
        """Complete the file."""
        self._writer.close()

    def _continued(self, i: int, column: pa.ChunkedArray) -> pa.ChunkedArray:
        chunks = [_with_value(chunk, column.type) for chunk in column.chunks]
        earlier = self._so_far.get(i)
        if earlier is not None:
            chunks = [earlier, *chunks]
        unified = pa.chunked_array(chunks, column.type).unify_dictionaries()
        self._so_far[i] = unified.chunk(0).slice(0, 0)  # its dictionaries, and no rows
        return pa.chunked_array(unified.chunks[earlier is not None :], column.type)


def _with_value(column: pa.Array, data_type: pa.DataType) -> pa.Array:
    """Return a column in whose dictionaries, at any depth, there is a value.

    A dictionary without any is one that Arrow replaces, not one that grows.
    """
    if not has_dictionary(data_type):
        return column
    if not pa.types.is_dictionary(data_type):
        return nested_column(column, data_type, _with_value)
    if len(column.dictionary):
        return column
    return pa.DictionaryArray.from_arrays(
        column.indices, _zero(data_type.value_type), ordered=data_type.ordered, safe=False
    )


def _zero(data_type: pa.DataType) -> pa.Array:
    """Return one value of a type: zero, or an empty text."""
    if pa.types.is_nested(data_type):
        return pa.nulls(1, data_type)
    try:
        return pa.array([""]).cast(data_type)
    except pa.ArrowException:
        return pa.Array.from_buffers(data_type, 1, [None, pa.py_buffer(bytes(64))])


def refuse_float_dictionaries(name: str, data_type: pa.DataType) -> None:
    """Raise for dictionaries that hold floats: NaN and -0.0 are no continuation of themselves."""
    if pa.types.is_dictionary(data_type):
        if pa.types.is_floating(data_type.value_type):
            raise pa.ArrowNotImplementedError(f"column {name!r} is {data_type}")
        return
    for i in range(data_type.num_fields):
        refuse_float_dictionaries(name, data_type.field(i).type)
