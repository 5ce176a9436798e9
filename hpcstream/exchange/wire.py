"""The wire format: record batches as blocks of bytes, one block for each consumer.

::

    block      directory | validity, values | validity, offsets, data | ...     0 rows: no block
    directory  n_rows, then for each column: has validity (0 or 1), bytes of data

All words are int64, every buffer begins at a multiple of 64 bytes, and a block
is as long as a multiple of 64. The schema is not sent: both sides know it. What
the receiver can compute from schema and row count is not sent either.

Fixed-width, boolean, string and binary columns are written by kernels straight
from the source columns into the send buffer. Columns of any other type travel
together as one Arrow IPC stream at the end of the block. A block is read as
views of the received memory: nothing is copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hpcstream.exchange.wire_columns import (
    BINARY,
    EMPTY,
    FOREIGN,
    Bytes,
    Column,
    Int64s,
    Places,
    Rows,
    foreign_streams,
)
from hpcstream.kernels import wire as wire_kernels

_AS_THEY_LIE = np.empty(0, dtype=np.int32)


class Pool(Protocol):
    """Where send buffers come from."""

    def take(self, n_bytes: int) -> Bytes:
        """Return writable memory, 64-byte aligned, free again when its last view dies."""


@dataclass(frozen=True, slots=True)
class Message:
    """What one sender has for all consumers of an edge in one step.

    Attributes
    ----------
    data : uint8[n_bytes]
    counts, displacements : int64[n_partitions]
        Length and place of each consumer's block in ``data``, in bytes.
    rows : int64[n_partitions]
    """

    data: Bytes
    counts: Int64s
    displacements: Int64s
    rows: Int64s

    def to_everyone(self, n_partitions: int) -> Message:
        """Return the message that sends the only block of this one to all consumers."""
        return Message(
            self.data,
            np.repeat(self.counts, n_partitions),
            np.repeat(self.displacements, n_partitions),
            np.repeat(self.rows, n_partitions),
        )


class WireFormat:
    """Writes and reads the batches of one edge. Not for several threads at once.

    Parameters
    ----------
    schema : pa.Schema
        Of every batch, hidden columns included.
    pool : Pool
        Gives the memory of messages.
    """

    def __init__(self, schema: pa.Schema, pool: Pool) -> None:
        columns = [Column.of_type(index, field.type) for index, field in enumerate(schema)]
        self._schema = schema
        self._pool = pool
        self._columns = [column for column in columns if column.kind != FOREIGN]
        self._foreign = [column.index for column in columns if column.kind == FOREIGN]
        self._cast_back = [
            (column.index, schema.field(column.index).type)
            for column in columns
            if column.type != schema.field(column.index).type
        ]
        # Foreign columns are laid out as one more column that has nothing but data.
        layout = [(c.row_bits, c.extra_rows) for c in self._columns] + [(0, 0)] * bool(
            self._foreign
        )
        self._row_bits = np.array([bits for bits, _ in layout], dtype=np.int64)
        self._extra_rows = np.array([rows for _, rows in layout], dtype=np.int64)
        self._n_words = 1 + 2 * len(layout)
        self._empty = pa.RecordBatch.from_arrays(
            [pa.array([], type=field.type) for field in schema], schema=schema
        )

    def encode(
        self, batch: pa.RecordBatch, order: npt.NDArray[Any] | None, offsets: Int64s
    ) -> Message:
        """Write the rows of a batch into one block for each partition.

        Parameters
        ----------
        batch : pa.RecordBatch
            Of this format's schema.
        order : int[n_ordered] or None
            Row numbers grouped by partition; None when rows stay as they lie.
        offsets : int64[n_partitions + 1]
            Partition ``p`` gets ``order[offsets[p]:offsets[p + 1]]``, or those
            rows of the batch itself.
        """
        rows = Rows(_AS_THEY_LIE if order is None else _as_int32(order), offsets)
        n_columns, n_partitions = len(self._row_bits), len(offsets) - 1
        arrays = [_column(batch, column) for column in self._columns]
        streams = foreign_streams(batch.select(self._foreign), rows) if self._foreign else []
        has_validity = np.zeros(n_columns, dtype=np.uint8)
        data_bytes = np.zeros((n_columns, n_partitions), dtype=np.int64)
        for place, (column, array) in enumerate(zip(self._columns, arrays, strict=True)):
            has_validity[place] = column.has_validity(array)
            column.measure(array, rows, data_bytes[place])
        if streams:
            data_bytes[-1] = [0 if stream is None else stream.size for stream in streams]

        starts = np.empty((n_columns, 3, n_partitions), dtype=np.int64)
        counts = np.empty(n_partitions, dtype=np.int64)
        displacements = np.empty(n_partitions, dtype=np.int64)
        sizes = data_bytes.reshape(-1)
        n_bytes = wire_kernels.plan_blocks(
            offsets,
            self._row_bits,
            self._extra_rows,
            has_validity,
            sizes,
            starts.reshape(-1),
            counts,
            displacements,
        )
        memory = self._pool.take(n_bytes)
        wire_kernels.write_directories(
            offsets, has_validity, sizes, displacements, memory.view(np.int64)
        )
        for place, (column, array) in enumerate(zip(self._columns, arrays, strict=True)):
            column.write(array, rows, Places(*starts[place], data_bytes[place]), memory)
        for stream, start in zip(streams, starts[-1, 2].tolist() if streams else (), strict=True):
            if stream is not None:
                memory[start : start + stream.size] = np.frombuffer(stream, dtype=np.uint8)
        return Message(memory, counts, displacements, np.diff(offsets))

    def encode_whole(self, batch: pa.RecordBatch) -> Message:
        """Write a batch into a single block, its rows as they lie."""
        return self.encode(batch, None, np.array([0, batch.num_rows], dtype=np.int64))

    def decode(self, memory: Bytes, n_rows: int) -> pa.RecordBatch:
        """Return the batch in a block, as views of ``memory`` that keep it alive.

        Parameters
        ----------
        memory : uint8[n_bytes]
            A block, beginning at a multiple of 8 bytes. It must not be written
            while the batch lives.
        n_rows : int
            Rows of the block; 0 for an empty one.
        """
        if n_rows == 0:
            return self._empty
        words = memory[: 8 * self._n_words].view(np.int64).tolist()
        assert words[0] == n_rows, f"a block of {words[0]} rows arrived as one of {n_rows}"
        buffer = pa.py_buffer(memory)
        arrays: list[pa.Array] = [None] * len(self._schema)
        position = _aligned(8 * self._n_words)
        word = 1
        for column in self._columns:
            valid = None
            if words[word]:
                n_bytes = (n_rows + 7) >> 3
                valid = buffer.slice(position, n_bytes)
                position += (n_bytes + 63) & -64
            if column.kind == EMPTY:
                buffers = [None]
            else:
                n_bytes = ((n_rows + column.extra_rows) * column.row_bits + 7) >> 3
                buffers = [valid, buffer.slice(position, n_bytes)]
                position += (n_bytes + 63) & -64
            if column.kind == BINARY:
                n_bytes = words[word + 1]
                buffers.append(buffer.slice(position, n_bytes))
                position += (n_bytes + 63) & -64
            null_count = -1 if valid is not None or column.kind == EMPTY else 0
            arrays[column.index] = pa.Array.from_buffers(column.type, n_rows, buffers, null_count)
            word += 2
        for index, data_type in self._cast_back:
            arrays[index] = arrays[index].cast(data_type)
        if self._foreign:
            stream = pa.ipc.open_stream(buffer.slice(position, words[word + 1]))
            foreign = stream.read_next_batch()
            for place, index in enumerate(self._foreign):
                arrays[index] = foreign.column(place)
        if not arrays:
            return _without_columns(n_rows)
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)


def _aligned(n_bytes: int) -> int:
    return (n_bytes + 63) & -64


def _column(batch: pa.RecordBatch, column: Column) -> pa.Array:
    array = batch.column(column.index)
    return array if array.type.equals(column.type) else array.cast(column.type)


def _as_int32(order: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    return np.ascontiguousarray(order, dtype=np.int32)


def _without_columns(n_rows: int) -> pa.RecordBatch:
    rows = pa.StructArray.from_buffers(pa.struct([]), n_rows, [None])
    return pa.RecordBatch.from_struct_array(rows)
