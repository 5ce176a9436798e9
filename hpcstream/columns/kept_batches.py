"""Rows as state: batches that are kept own their memory, have plain types, and become bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hpcstream.columns.selection import take_column

Bytes = npt.NDArray[np.uint8]


def decoded_schema(schema: pa.Schema) -> pa.Schema:
    """Return a schema with the types of values in place of dictionaries of them."""
    if not any(pa.types.is_dictionary(field.type) for field in schema):
        return schema
    return pa.schema([field.with_type(_decoded_type(field.type)) for field in schema])


def _decoded_type(data_type: pa.DataType) -> pa.DataType:
    is_dictionary = pa.types.is_dictionary(data_type)
    return data_type.value_type if is_dictionary else data_type


def decode_dictionaries(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch in its `decoded_schema`: two batches may have different dictionaries."""
    if batch.schema is schema:
        return batch
    columns = [
        column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def take_rows(batch: pa.RecordBatch, rows: npt.NDArray[np.uint32]) -> pa.RecordBatch:
    """Return a copy of some rows (their numbers, uint32[n]) of a batch."""
    numbers = rows.view(np.int32)
    columns = [take_column(column, numbers) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def concat_batches(batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    """Return the rows of batches one after the other; of one batch, itself."""
    if not batches:
        return pa.record_batch([pa.nulls(0, field.type) for field in schema], schema=schema)
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def to_ipc(batch: pa.RecordBatch) -> Bytes:
    """Return rows as the bytes of an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return np.frombuffer(sink.getvalue(), dtype=np.uint8)


def from_ipc(data: Bytes) -> pa.RecordBatch:
    """Return the rows that `to_ipc` wrote."""
    with pa.ipc.open_stream(pa.py_buffer(np.ascontiguousarray(data))) as reader:
        (batch,) = reader
    return batch
