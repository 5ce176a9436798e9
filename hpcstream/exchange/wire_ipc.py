"""The parts of a block that Arrow IPC writes: dictionaries, and columns no kernel knows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]


class DictionaryWriter:
    """Serializes the dictionary of one column, again only when it is another one."""

    def __init__(self) -> None:
        self._last: pa.Array | None = None
        self._serialized: Bytes = np.empty(0, dtype=np.uint8)

    def serialize(self, dictionary: pa.Array) -> Bytes:
        """Return the dictionary as an Arrow IPC message."""
        if self._last is None or not _is_same_memory(dictionary, self._last):
            batch = pa.record_batch([dictionary], names=["values"])
            self._serialized = np.frombuffer(batch.serialize(), dtype=np.uint8)
            self._last = dictionary
        return self._serialized


def read_dictionary(message: pa.Buffer, data_type: pa.DataType) -> pa.Array:
    """Return the dictionary that a `DictionaryWriter` serialized."""
    schema = pa.schema([pa.field("values", data_type.value_type)])
    return pa.ipc.read_record_batch(message, schema).column(0)


def _is_same_memory(one: pa.Array, other: pa.Array) -> bool:
    # Both arrays are alive, so neither address can have been given to something else.
    if len(one) != len(other) or one.offset != other.offset:
        return False
    return _addresses(one) == _addresses(other)


def _addresses(array: pa.Array) -> list[int | None]:
    return [None if buffer is None else buffer.address for buffer in array.buffers()]


def write_streams(
    batch: pa.RecordBatch, order: npt.NDArray[np.int32], offsets: Int64s
) -> list[pa.Buffer | None]:
    """Return the rows of each partition as an Arrow IPC stream; None for no rows."""
    if order.size:
        batch = batch.take(pa.array(order))
    return [
        _stream(batch.slice(first, stop - first)) if stop > first else None
        for first, stop in pairwise(offsets.tolist())
    ]


def place_streams(streams: list[pa.Buffer | None], starts: Int64s, memory: Bytes) -> None:
    """Copy the streams of all partitions into the send buffer."""
    for stream, start in zip(streams, starts.tolist(), strict=True):
        if stream is not None:
            memory[start : start + stream.size] = np.frombuffer(stream, dtype=np.uint8)


def read_stream(stream: pa.Buffer) -> list[pa.Array]:
    """Return the columns that one partition got as an Arrow IPC stream."""
    columns: list[pa.Array] = pa.ipc.open_stream(stream).read_next_batch().columns
    return columns


def _stream(batch: pa.RecordBatch) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()
