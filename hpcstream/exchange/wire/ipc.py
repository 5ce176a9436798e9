"""Encodes columns of types without a kernel as Arrow IPC streams."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]


def write_streams(
    batch: pa.RecordBatch, order: npt.NDArray[np.int32], offsets: Int64s
) -> list[pa.Buffer | None]:
    """Return the rows of each partition as an Arrow IPC stream; None if it has no rows."""
    if order.size:
        batch = batch.take(pa.array(order))
    return [
        _stream(batch.slice(first, stop - first)) if stop > first else None
        for first, stop in pairwise(offsets.tolist())
    ]


def copy_streams(streams: list[pa.Buffer | None], starts: Int64s, memory: Bytes) -> None:
    """Copy the streams of all partitions into the send buffer."""
    for stream, start in zip(streams, starts.tolist(), strict=True):
        if stream is not None:
            memory[start : start + stream.size] = np.frombuffer(stream, dtype=np.uint8)


def read_stream(stream: pa.Buffer) -> list[pa.Array]:
    """Return the columns of an Arrow IPC stream with one batch."""
    columns: list[pa.Array] = pa.ipc.open_stream(stream).read_next_batch().columns
    return columns


def _stream(batch: pa.RecordBatch) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()
