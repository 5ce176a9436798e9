"""Sinks without files: in memory, and printed."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, TextIO

import numpy as np
import pyarrow as pa

from hpcstream.columns.shown_rows import heading, line_of, shown_rows
from hpcstream.connectors.base import OutputPart, Sink
from hpcstream.log import OUT

SHOWN_ROWS = 20
"""Rows that `Stream.print` shows if it is not told."""


class MemorySink(Sink):
    """Keeps committed rows of this rank in `batches`, as `Sink`.

    Attributes
    ----------
    batches : list of pa.RecordBatch
    has_begun, has_committed : bool
        Whether a run has begun here, and whether rows of it, perhaps none, were committed.

    Parameters
    ----------
    everywhere : bool
        Whether all ranks are to have the rows when a run has ended.
    """

    def __init__(self, *, everywhere: bool = False) -> None:
        self.everywhere = everywhere
        self.batches: list[pa.RecordBatch] = []
        self.has_begun = False
        self.has_committed = False
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

    def identity(self) -> str:
        """Return the kind: there is nothing that it writes to."""
        return "collect"

    def begin(self, schema: pa.Schema, rank: int, size: int, attempt: int) -> None:
        """Start empty."""
        self._schema = schema
        self.batches, self._pending, self._prepared = [], [], []
        self.has_begun, self.has_committed = True, False

    def write(self, batch: pa.RecordBatch) -> None:
        """Keep a batch, and with it the memory that it is a view of."""
        if batch.num_rows:
            self._pending.append(batch)

    def prepare(self) -> list[OutputPart]:
        """Separate what was written from later rows; nothing has to be made durable."""
        self._prepared += self._pending
        self._pending = []
        return []

    def commit(self, parts: Sequence[OutputPart]) -> None:
        """Add the prepared rows to `batches`."""
        self.batches += self._prepared
        self._prepared = []
        self.has_committed = True

    def committed_rows(self) -> pa.Buffer:
        """Return the committed rows as an Arrow stream."""
        return _stream_of(self.batches, self._schema)

    def take_over(self, rows: pa.Buffer) -> None:
        """Replace the rows by those that another rank has committed."""
        with pa.ipc.open_stream(rows) as reader:
            self.batches = list(reader)
        self.has_begun = self.has_committed = True

    def snapshot(self) -> dict[str, np.ndarray]:
        """Return every row, committed or not, as an Arrow stream: no file holds them."""
        rows = _stream_of([*self.batches, *self._prepared, *self._pending], self._schema)
        return {"rows": np.frombuffer(rows, dtype=np.uint8)}

    def restore(self, snapshots: Sequence[Mapping[str, Any]]) -> None:
        """Restore the rows of snapshots, which are committed."""
        for snapshot in snapshots:
            with pa.ipc.open_stream(pa.py_buffer(snapshot["rows"].tobytes())) as reader:
                self.batches += list(reader)

    def abort(self) -> None:
        """Discard what is not committed."""
        self._pending, self._prepared = [], []


def _stream_of(batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue()


class PrintSink(Sink):
    """Prints rows as they come, one line each, as `Sink`; for looking at a stream, not for output.

    Rows are shown at once, so after a restart some are shown again. The names of the
    columns stand above the first row; with several ranks each line says its rank.

    Parameters
    ----------
    limit : int, optional
        Rows to show on each rank; what comes after is counted and said. None: all.
    label : str
        Stands before each line, to tell what several sinks print.
    units : mapping of str to str
        What columns of integers count that hold points in time: they are shown as dates.
    stream : file, optional
        Default: standard output as it is when the row comes.
    """

    def __init__(
        self,
        limit: int | None = SHOWN_ROWS,
        stream: TextIO | None = None,
        *,
        label: str = "",
        units: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._label = self._described = label
        self._limit = limit
        self._stream = stream
        self._units = units
        self._prefix = ""
        self._n_rows = 0
        self._n_said = 0
        self._schema = pa.schema([])

    def numbered(self, number: int) -> PrintSink:
        """Return the same sink under a number, if it has no label: one of several in a job.

        Its identity is what it was, so that a checkpoint finds it again.
        """
        if self._described:
            return self
        other = copy.copy(self)
        other._label = f"print {number}"
        return other

    def describe(self) -> str:
        """Return one line for ``explain()``."""
        given = [] if self._limit == SHOWN_ROWS else [f"limit={self._limit}"]
        given += [f"label={self._described!r}"] if self._described else []
        return f"print({', '.join(given)})"

    def identity(self) -> str:
        """Return the label: two with the same one print the same way."""
        return f"print({self._described!r})"

    def begin(self, schema: pa.Schema, rank: int, size: int, attempt: int) -> None:
        """Start counting."""
        self._schema, self._n_rows, self._n_said = schema, 0, 0
        self._prefix = f"[rank {rank}/{size}] " if size > 1 else ""
        self._prefix += f"{self._label}: " if self._label else ""

    def write(self, batch: pa.RecordBatch) -> None:
        """Print the rows."""
        shown = batch.slice(0, self._room(batch.num_rows))
        lines = [line_of(row) for row in shown_rows(shown, self._units)]
        if batch.num_rows and self._n_rows == 0:
            lines.insert(0, heading(self._schema.names))
        self._n_rows += batch.num_rows
        self._print(lines)

    def prepare(self) -> list[OutputPart]:
        """Return no parts: nothing has to be made durable."""
        return []

    def commit(self, parts: Sequence[OutputPart]) -> None:
        """Print how many rows were not shown, if there are more than before."""
        hidden = 0 if self._limit is None else max(0, self._n_rows - self._limit)
        if hidden > self._n_said:
            self._n_said = hidden
            rows = "row" if hidden == 1 else "rows"
            advice = " (print(limit=None) shows all)" if self._limit == SHOWN_ROWS else ""
            self._print([f"... and {hidden:,} more {rows}{advice}"])

    def abort(self) -> None:
        """Do nothing: printed rows cannot be taken back."""

    def _room(self, n_rows: int) -> int:
        if self._limit is None:
            return n_rows
        return max(0, min(n_rows, self._limit - self._n_rows))

    def _print(self, lines: list[str]) -> None:
        """Write all lines at once, so that lines of several ranks do not mix."""
        if lines:
            text = "".join(f"{self._prefix}{line}\n" for line in lines)
            if self._stream is None:
                OUT.write(text)
                return
            encoding = getattr(self._stream, "encoding", None) or "utf-8"
            self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            self._stream.flush()
