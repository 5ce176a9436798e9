"""Restores types that Parquet does not have, in files that we wrote.

Arrow keeps its schema beside that of Parquet, but gives back seconds as milliseconds,
date64 as date32, and of dictionaries only those of short strings. In files of ours,
which say so in the footer, columns come back as they were written; a dictionary with
indices of at least 32 bits, for the row groups of a file may have one of their own each.
"""

from __future__ import annotations

import base64

import pyarrow as pa
import pyarrow.parquet as pq

MARK = b"hpcstream.parquet"


def marked(schema: pa.Schema) -> pa.Schema:
    """Return a schema with a mark in its metadata that we wrote the file."""
    return schema.with_metadata({MARK: b"1"})


def written_schema(file: pq.ParquetFile) -> pa.Schema:
    """Return the schema of a file: as we wrote it, or as Arrow reads it."""
    found = file.schema_arrow
    text = (file.metadata.metadata or {}).get(b"ARROW:schema")
    if text is None or MARK not in (found.metadata or {}):
        return found
    written = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))
    if written.names != found.names:
        return found
    return pa.schema(
        [
            field.with_type(_restored(field.type, was.type))
            for field, was in zip(found, written, strict=True)
        ]
    )


def restored_batch(batch: pa.RecordBatch, types: list[pa.DataType]) -> pa.RecordBatch:
    """Return the columns in these types, which are those of `written_schema`."""
    if batch.schema.types == types:
        return batch
    columns = [_restored_column(column, t) for column, t in zip(batch.columns, types, strict=True)]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _restored(found: pa.DataType, written: pa.DataType) -> pa.DataType:
    """Return the type in which a column is read back."""
    if pa.types.is_dictionary(written):
        index = written.index_type if written.index_type.bit_width >= 32 else pa.int32()
        return pa.dictionary(index, written.value_type, written.ordered)
    return found if has_dictionary(written) else written


def has_dictionary(data_type: pa.DataType) -> bool:
    """Whether a column has a dictionary, at any depth."""
    if pa.types.is_dictionary(data_type):
        return True
    return any(has_dictionary(data_type.field(i).type) for i in range(data_type.num_fields))


def _restored_column(column: pa.Array, data_type: pa.DataType) -> pa.Array:
    if column.type == data_type:
        return column
    if not pa.types.is_dictionary(data_type):
        return column.cast(data_type)
    if not pa.types.is_dictionary(column.type):
        column = _restored_column(column, data_type.value_type).dictionary_encode()
    return pa.DictionaryArray.from_arrays(
        column.indices.cast(data_type.index_type),
        column.dictionary.cast(data_type.value_type),
        ordered=data_type.ordered,
    )
