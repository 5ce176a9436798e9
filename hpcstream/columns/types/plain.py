"""Normalizes columns: one encoding for each of Arrow's ways to represent the same values.

Applied to all batches that enter the engine: from a source, from a user's function, from the
table of a join. Plain columns have no views, no run-end encoding and no byte booleans.
Dictionaries that differ between batches can be unified. A row of a dictionary column is
null if and only if its index is null, although Arrow also allows null among the values of a
dictionary: a column's null count considers indices only. Other extension types remain,
except inside nested columns; functions, keys and aggregates use their storage. Lists are
stored in row order.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.columns.arrays import LARGE_TYPE_OF_VIEW, fixed_values, validity
from hpcstream.columns.types.plain_nested import nested_column, nested_type

_LEAST_INDEX = pa.int32()
"""The type of narrower dictionary indices: batches with different dictionaries are concatenated,
and the index must be able to number all their values."""


def plain_type(data_type: pa.DataType) -> pa.DataType:
    """Return the type of a column of this type after normalization."""
    if pa.types.is_dictionary(data_type):
        values = plain_type(data_type.value_type)
        if isinstance(data_type.value_type, pa.BaseExtensionType):
            return values  # Arrow supports little more than decoding it
        narrow = data_type.index_type.bit_width < _LEAST_INDEX.bit_width
        index = _LEAST_INDEX if narrow else data_type.index_type
        return pa.dictionary(index, values, data_type.ordered)
    if pa.types.is_run_end_encoded(data_type):
        return plain_type(data_type.value_type)
    if isinstance(data_type, pa.BaseExtensionType):
        return _plain_extension(data_type)
    if data_type.num_fields:
        return nested_type(data_type, _inner_type)
    return LARGE_TYPE_OF_VIEW.get(data_type, data_type)


def _inner_type(data_type: pa.DataType) -> pa.DataType:
    """Return the plain type of a child: Arrow has no kernels for nested extension types."""
    plain = plain_type(data_type)
    if isinstance(plain, pa.BaseExtensionType):
        return plain_type(plain.storage_type)
    return plain


def plain_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch in the `plain_type` of each column; the batch itself if it is plain."""
    columns = batch.columns
    plain = [plain_column(column, f.type) for column, f in zip(columns, schema, strict=True)]
    if all(new is old for new, old in zip(plain, columns, strict=True)):
        return batch
    return pa.RecordBatch.from_arrays(plain, schema=schema)


def plain_table(table: pa.Table) -> pa.Table:
    """Return a table in the `plain_type` of each column, chunk by chunk."""
    columns = [
        pa.chunked_array([plain_column(chunk, t) for chunk in column.chunks], t)
        for column, t in zip(table.columns, map(plain_type, table.schema.types), strict=True)
    ]
    fields = zip(table.schema, columns, strict=True)
    schema = pa.schema([field.with_type(column.type) for field, column in fields])
    return pa.Table.from_arrays(columns, schema=schema)


def plain_column(column: pa.Array, data_type: pa.DataType) -> pa.Array:
    """Return a column in its `plain_type` ``data_type``; the column itself if it is plain."""
    if pa.types.is_dictionary(column.type):
        return _plain_dictionary(column, data_type)
    if column.type.equals(data_type):
        return column
    if pa.types.is_run_end_encoded(column.type):
        return plain_column(pc.run_end_decode(column), data_type)
    if isinstance(column.type, pa.BaseExtensionType):
        return plain_column(column.storage, data_type)
    if column.type.num_fields:
        return nested_column(column, data_type, plain_column)
    return column.cast(data_type)


def _plain_extension(data_type: pa.BaseExtensionType) -> pa.DataType:
    if data_type == pa.bool8():
        return pa.bool_()
    stored = plain_type(data_type.storage_type)
    return data_type if stored.equals(data_type.storage_type) else stored


def _plain_dictionary(column: pa.DictionaryArray, data_type: pa.DataType) -> pa.Array:
    if not pa.types.is_dictionary(data_type):
        return plain_column(column.dictionary_decode(), data_type)
    if not column.type.equals(data_type):
        values = plain_column(column.dictionary, data_type.value_type)
        column = _dictionary_array(column.indices.cast(data_type.index_type), values, data_type)
    return _with_null_indices(column) if column.dictionary.null_count else column


def _with_null_indices(column: pa.DictionaryArray) -> pa.DictionaryArray:
    """Return a column without nulls in its dictionary: their rows have a null index instead."""
    is_value = column.dictionary.is_valid().to_numpy(zero_copy_only=False)
    numbers = np.zeros(len(is_value), dtype=np.int64)  # of the remaining values
    numbers[is_value] = np.arange(np.count_nonzero(is_value))
    indices = fixed_values(column.indices)
    present = validity(column.indices)
    if present is not None:
        indices = np.where(present, indices, indices.dtype.type(0))  # undefined for nulls
    is_null = ~is_value[indices]
    if present is not None:
        is_null |= ~present
    new_indices = pa.array(numbers[indices].astype(indices.dtype), mask=is_null)
    values = column.dictionary.filter(pa.array(is_value))
    return _dictionary_array(new_indices, values, column.type)


def _dictionary_array(
    indices: pa.Array, values: pa.Array, data_type: pa.DictionaryType
) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(indices, values, ordered=data_type.ordered, safe=False)
