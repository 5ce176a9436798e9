"""Columns as the engine has them, whatever way Arrow has of writing the same values.

Applied where batches come in: from a source, from a function of the user's, from the
table of a join. Behind that there are no views, no run ends, no bytes for booleans;
dictionaries that differ from batch to batch can be joined to one;
and a row of a dictionary column is null where its index is: Arrow lets a dictionary
hold null among its values, too, and whoever asks a column for its nulls sees the
indices only. Other extension types stay what they are called, except inside of nested
columns; functions, keys and aggregates see what their values are stored as. Lists lie
in the order of their rows.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.columns.arrays import LARGE_TYPE_OF_VIEW, fixed_values, validity
from hpcstream.columns.types.plain_nested import nested_column, nested_type

_LEAST_INDEX = pa.int32()
"""What narrower indices of dictionaries become: batches are put together whose dictionaries
differ, and all their values must have a number."""


def plain_type(data_type: pa.DataType) -> pa.DataType:
    """Return the type as which the engine has a column of this type."""
    if pa.types.is_dictionary(data_type):
        values = plain_type(data_type.value_type)
        if isinstance(data_type.value_type, pa.BaseExtensionType):
            return values  # Arrow decodes it, but does little else with it
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
    """Return the plain type inside of a nested one: Arrow has no kernels for extensions there."""
    plain = plain_type(data_type)
    if isinstance(plain, pa.BaseExtensionType):
        return plain_type(plain.storage_type)
    return plain


def plain_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return the same columns in the `plain_type` of each; the very batch if they are so."""
    columns = batch.columns
    plain = [plain_column(column, f.type) for column, f in zip(columns, schema, strict=True)]
    if all(new is old for new, old in zip(plain, columns, strict=True)):
        return batch
    return pa.RecordBatch.from_arrays(plain, schema=schema)


def plain_table(table: pa.Table) -> pa.Table:
    """Return the same columns in the `plain_type` of each, chunk by chunk."""
    columns = [
        pa.chunked_array([plain_column(chunk, t) for chunk in column.chunks], t)
        for column, t in zip(table.columns, map(plain_type, table.schema.types), strict=True)
    ]
    fields = zip(table.schema, columns, strict=True)
    schema = pa.schema([field.with_type(column.type) for field, column in fields])
    return pa.Table.from_arrays(columns, schema=schema)


def plain_column(column: pa.Array, data_type: pa.DataType) -> pa.Array:
    """Return a column in its `plain_type`, which is given; the very column if it is so."""
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
    """Return a column whose rows are null where their index is, and whose dictionary has none."""
    is_value = column.dictionary.is_valid().to_numpy(zero_copy_only=False)
    numbers = np.zeros(len(is_value), dtype=np.int64)  # of the values that stay
    numbers[is_value] = np.arange(np.count_nonzero(is_value))
    places = fixed_values(column.indices)
    present = validity(column.indices)
    if present is not None:
        places = np.where(present, places, places.dtype.type(0))  # anything stands under a null
    is_null = ~is_value[places]
    if present is not None:
        is_null |= ~present
    indices = pa.array(numbers[places].astype(places.dtype), mask=is_null)
    values = column.dictionary.filter(pa.array(is_value))
    return _dictionary_array(indices, values, column.type)


def _dictionary_array(
    indices: pa.Array, values: pa.Array, data_type: pa.DictionaryType
) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(indices, values, ordered=data_type.ordered, safe=False)
