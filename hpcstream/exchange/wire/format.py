"""The wire format: record batches as blocks of bytes, one block for each consumer.

::

    block      directory | validity, values | validity, offsets, data | ...     0 rows: no block
    directory  n_rows, then for each column: has validity (0 or 1), bytes of data

All words are int64, every buffer begins at a multiple of 64 bytes, and the length of a
block is a multiple of 64. The schema is not sent, since both sides know it, nor is
anything that the receiver can compute from schema and row count.

Kernels write fixed-width, boolean, string and binary columns directly from the source
columns into the send buffer. Columns of all other types are sent together as one Arrow IPC
stream at the end of the block. A block is decoded as views of the received memory,
without a copy.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hpcstream.exchange.wire.columns import (
    BINARY,
    DICTIONARY,
    FOREIGN,
    IN_ORDER,
    VALUES,
    BufferStarts,
    Bytes,
    Column,
    Int64s,
    Rows,
    aligned,
)
from hpcstream.exchange.wire.dictionaries import Compacted, DictionaryColumn
from hpcstream.exchange.wire.ipc import (
    copy_streams,
    read_stream,
    write_streams,
)
from hpcstream.exchange.wire.message import Message
from hpcstream.kernels import wire as wire_kernels


class Pool(Protocol):
    """The allocator of send buffers."""

    def take(self, n_bytes: int) -> Bytes:
        """Return writable memory, 64-byte aligned, which is freed when its last view dies."""


class _Layout:
    """Offsets of the buffers of all columns, for one number of partitions; reused."""

    def __init__(self, columns: list[Column], n_laid_out: int, n_partitions: int) -> None:
        self.has_validity = np.zeros(n_laid_out, dtype=np.uint8)
        data_bytes = np.zeros((n_laid_out, n_partitions), dtype=np.int64)
        starts = np.zeros((n_laid_out, 3, n_partitions), dtype=np.int64)
        self.data_bytes = data_bytes.reshape(-1)
        self.all_starts = starts.reshape(-1)
        self.starts = [
            BufferStarts(starts[i, 0], starts[i, 1], starts[i, 2], data_bytes[i])
            for i in range(n_laid_out)
        ]
        self.columns = list(zip(columns, self.starts, strict=False))


class WireFormat:
    """Encodes and decodes the batches of one edge. Not thread-safe.

    Parameters
    ----------
    schema : pa.Schema
        Of every batch, hidden columns included.
    pool : Pool
        Allocates the memory of messages.
    """

    def __init__(self, schema: pa.Schema, pool: Pool) -> None:
        columns = [Column.of_type(index, field.type) for index, field in enumerate(schema)]
        self.schema = schema
        self._pool = pool
        self._columns = [column for column in columns if column.kind != FOREIGN]
        self._foreign = [column.index for column in columns if column.kind == FOREIGN]
        # Foreign columns are laid out as one additional column with nothing but data.
        laid_out = self._columns + [columns[index] for index in self._foreign[:1]]
        self._row_bits = np.array([column.row_bits for column in laid_out], dtype=np.int64)
        self._extra_rows = np.array([column.extra_rows for column in laid_out], dtype=np.int64)
        self._dictionaries = {
            number: DictionaryColumn(
                WireFormat(pa.schema({"values": column.type.value_type}), pool)
            )
            for number, column in enumerate(self._columns)
            if column.kind == DICTIONARY
        }
        self._n_fields = len(columns)
        self._plain_types = _plain_types(columns)
        self._n_words = 1 + 2 * len(laid_out)
        self._first_buffer = aligned(8 * self._n_words)
        self._layouts: dict[int, _Layout] = {}
        self._empty = pa.RecordBatch.from_arrays(
            [pa.nulls(0, field.type) for field in schema], schema=schema
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
            Row numbers grouped by partition; None if rows are sent in the order of the batch.
        offsets : int64[n_partitions + 1]
            Partition ``p`` gets ``order[offsets[p]:offsets[p + 1]]``, or those
            rows of the batch itself.

        Notes
        -----
        Cost: one kernel call per buffer for all partitions; foreign columns cost one IPC
        stream per partition.
        """
        rows = Rows(IN_ORDER if order is None else _as_int32(order), offsets)
        arrays = [column.sent(batch.column(column.index)) for column in self._columns]
        streams = write_streams(batch.select(self._foreign), *rows) if self._foreign else []
        layout = self._measure(arrays, streams, rows)
        dictionaries = self._compact_dictionaries(batch, rows, layout)
        counts, displacements = np.empty((2, len(offsets) - 1), dtype=np.int64)
        n_bytes = wire_kernels.plan_blocks(
            offsets,
            self._row_bits,
            self._extra_rows,
            layout.has_validity,
            layout.data_bytes,
            layout.all_starts,
            counts,
            displacements,
        )
        memory = self._pool.take(int(n_bytes))  # a NumPy integer if kernels are not compiled
        wire_kernels.write_directories(
            offsets, layout.has_validity, layout.data_bytes, displacements, memory.view(np.int64)
        )
        for (column, starts), array in zip(layout.columns, arrays, strict=True):
            column.write(array, rows, starts, memory)
        for number, compacted in dictionaries:
            row_bits = self._columns[number].row_bits
            writer = self._dictionaries[number]
            writer.write(compacted, row_bits, rows, layout.starts[number], memory)
        if streams:
            copy_streams(streams, layout.starts[-1].data, memory)
        return Message(memory, counts, displacements, offsets[1:] - offsets[:-1])

    def _measure(
        self, arrays: list[pa.Array], streams: list[pa.Buffer | None], rows: Rows
    ) -> _Layout:
        n_partitions = len(rows.offsets) - 1
        layout = self._layouts.get(n_partitions)
        if layout is None:
            layout = _Layout(self._columns, len(self._row_bits), n_partitions)
            self._layouts[n_partitions] = layout
        for index, ((column, starts), array) in enumerate(zip(layout.columns, arrays, strict=True)):
            layout.has_validity[index] = column.has_validity(array)
            if column.kind == BINARY:
                column.measure(array, rows, starts.data_bytes)
        if streams:
            sizes = [0 if stream is None else stream.size for stream in streams]
            layout.starts[-1].data_bytes[:] = sizes
        return layout

    def _compact_dictionaries(
        self, batch: pa.RecordBatch, rows: Rows, layout: _Layout
    ) -> list[tuple[int, Compacted]]:
        compacted = []
        for number, writer in self._dictionaries.items():
            column = writer.compact(batch.column(self._columns[number].index), rows)
            layout.starts[number].data_bytes[:] = column.values.counts
            compacted.append((number, column))
        return compacted

    def encode_whole(self, batch: pa.RecordBatch) -> Message:
        """Write all rows of a batch, in order, into a single block."""
        return self.encode(batch, None, np.array([0, batch.num_rows], dtype=np.int64))

    def decode(self, memory: Bytes, n_rows: int) -> pa.RecordBatch:
        """Return the batch in a block, as views of ``memory`` that keep it alive.

        Parameters
        ----------
        memory : uint8[n_bytes]
            A block, aligned to 8 bytes. It must not be modified while the batch is alive.
        n_rows : int
            Rows of the block; 0 for an empty one.
        """
        if n_rows == 0:
            return self._empty
        directory = memory[: 8 * self._n_words].view(np.int64).tolist()
        assert directory[0] == n_rows, f"expected a block of {n_rows} rows, got {directory[0]}"
        block = pa.py_buffer(memory)
        if self._plain_types and not any(directory[1::2]):
            return self._plain(block, n_rows)
        arrays: list[pa.Array] = [None] * self._n_fields
        position = self._first_buffer
        for number, column in enumerate(self._columns):
            has_validity, n_bytes = directory[1 + 2 * number : 3 + 2 * number]
            array, position = column.read(block, position, n_rows, has_validity, n_bytes)
            if column.kind == DICTIONARY:
                values = memory[position - aligned(n_bytes) : position]
                array = self._dictionaries[number].read(array, values)
            arrays[column.index] = array
        if self._foreign:
            stream = block.slice(position, directory[-1])
            for index, array in zip(self._foreign, read_stream(stream), strict=True):
                arrays[index] = array
        if not arrays:
            return _without_columns(n_rows)
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _plain(self, block: pa.Buffer, n_rows: int) -> pa.RecordBatch:
        """Return the batch in a block that has only values, without slicing its buffers.

        For small rounds, creating the arrays takes longer than processing them.
        """
        arrays, position = [], self._first_buffer
        for data_type, width in self._plain_types:
            first = position // width
            arrays.append(pa.Array.from_buffers(data_type, n_rows, [None, block], 0, first))
            position += aligned(n_rows * width)
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def _plain_types(columns: list[Column]) -> list[tuple[pa.DataType, int]]:
    """Return each column's type and bytes per value; empty if not all have only values."""
    is_plain = all(c.kind == VALUES and c.sent_as is c.type for c in columns)
    return [(column.type, column.row_bits // 8) for column in columns] if is_plain else []


def _as_int32(order: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    return np.ascontiguousarray(order, dtype=np.int32)


def _without_columns(n_rows: int) -> pa.RecordBatch:
    # A batch made of no arrays has no rows; one made of a struct without fields keeps them.
    rows = pa.StructArray.from_buffers(pa.struct([]), n_rows, [None])
    return pa.RecordBatch.from_struct_array(rows)
