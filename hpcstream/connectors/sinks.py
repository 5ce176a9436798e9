"""Sinks without files: in memory, and printed."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import numpy as np
import pyarrow as pa

from hpcstream.connectors.base import Part


class MemorySink:
    """Keeps committed rows of this rank in `batches`, as `Sink`."""

    def __init__(self) -> None:
        self.batches: list[pa.RecordBatch] = []
        self._pending: list[pa.RecordBatch] = []
        self._prepared: list[pa.RecordBatch] = []
        self._schema = pa.schema([])

    @property
    def table(self) -> pa.Table:
        """The committed rows of this rank."""
        return pa.Table.from_batches(self.batches, schema=self._schema)

    def describe(self) -> str:
        """Return one line for ``explain()``."""
        return "collect()"

    def begin(self, schema: pa.Schema, rank: int, size: int, attempt: int) -> None:
        """Start empty."""
        self._schema = schema
        self.batches, self._pending, self._prepared = [], [], []

    def write(self, batch: pa.RecordBatch) -> None:
        """Keep a batch; it may be a view, so what owns its memory lives on too."""
        if batch.num_rows:
            self._pending.append(batch)

    def prepare(self) -> list[Part]:
        """Set aside what was written; there is nothing to make durable."""
        self._prepared += self._pending
        self._pending = []
        return []

    def commit(self, parts: Sequence[Part]) -> None:
        """Show what was prepared."""
        self.batches += self._prepared
        self._prepared = []

    def snapshot(self) -> dict[str, np.ndarray]:
        """Return every row, committed or not, as an Arrow stream: no file holds them."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self._schema) as writer:
            for batch in (*self.batches, *self._prepared, *self._pending):
                writer.write_batch(batch)
        return {"rows": np.frombuffer(sink.getvalue(), dtype=np.uint8)}

    def restore(self, snapshots: Sequence[Mapping[str, Any]]) -> None:
        """Take over the rows of snapshots; the checkpoint that holds them is complete."""
        for snapshot in snapshots:
            with pa.ipc.open_stream(pa.py_buffer(snapshot["rows"].tobytes())) as reader:
                self.batches += list(reader)

    def abort(self) -> None:
        """Forget what is not committed."""
        self._pending, self._prepared = [], []


class PrintSink:
    """Prints rows as they come, one line each, as `Sink`; for looking at a stream, not for output.

    Rows are shown at once, so after a restart some are shown again. The names of the
    columns stand above the first row; with several ranks each line says its rank.

    Parameters
    ----------
    limit : int, optional
        Rows to show on each rank; what comes after is counted and said at the end.
    stream : file, optional
        Default: standard output as it is when the row comes.
    """

    def __init__(self, limit: int | None = None, stream: TextIO | None = None) -> None:
        self._limit = limit
        self._stream = stream
        self._prefix = ""
        self._n_rows = 0
        self._schema = pa.schema([])

    def describe(self) -> str:
        """Return one line for ``explain()``."""
        return "print()" if self._limit is None else f"print(limit={self._limit})"

    def begin(self, schema: pa.Schema, rank: int, size: int, attempt: int) -> None:
        """Start counting."""
        self._schema, self._n_rows = schema, 0
        self._prefix = f"[rank {rank}/{size}] " if size > 1 else ""

    def write(self, batch: pa.RecordBatch) -> None:
        """Print the rows."""
        shown = batch.slice(0, self._room(batch.num_rows))
        lines = [" | ".join(map(str, row.values())) for row in shown.to_pylist()]
        if lines and self._n_rows == 0:
            lines.insert(0, " | ".join(self._schema.names))
        self._n_rows += batch.num_rows
        self._print(lines)

    def prepare(self) -> list[Part]:
        """There is nothing to make durable."""
        return []

    def commit(self, parts: Sequence[Part]) -> None:
        """Say how many rows were not shown."""
        if self._limit is not None and self._n_rows > self._limit:
            self._print([f"... and {self._n_rows - self._limit} more rows"])

    def abort(self) -> None:
        """Nothing can be taken back."""

    def _room(self, n_rows: int) -> int:
        if self._limit is None:
            return n_rows
        return max(0, min(n_rows, self._limit - self._n_rows))

    def _print(self, lines: list[str]) -> None:
        """Write all lines at once, so that those of several ranks do not mix."""
        if lines:
            stream = self._stream or sys.stdout
            stream.write("".join(f"{self._prefix}{line}\n" for line in lines))
            stream.flush()
