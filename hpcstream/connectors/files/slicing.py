"""Slices batches of any size into chunks of exactly the requested size."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa

from hpcstream.connectors.base import Chunk, SplitReader
from hpcstream.connectors.scan import Scan, empty_batch


class RowSlicer:
    """Slices a stream of batches into batches of exactly the requested number of rows.

    A cut inside a batch is a view; only a chunk that spans two batches is copied.
    """

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._current: pa.RecordBatch | None = None
        self._offset = 0
        self._length = 0

    def take(self, n_rows: int) -> pa.RecordBatch | None:
        """Return the next ``n_rows`` rows, fewer at the end, None after it."""
        left = self._length - self._offset
        if left == 0:
            left = self._advance()
        if left >= n_rows and self._current is not None:
            return self._cut(n_rows)
        return self._gather(n_rows)

    def skip(self, n_rows: int) -> int:
        """Drop rows; return how many there were to drop."""
        dropped = 0
        while dropped < n_rows:
            left = self._length - self._offset or self._advance()
            if left == 0:
                break
            step = min(left, n_rows - dropped)
            self._offset += step
            dropped += step
        return dropped

    def _cut(self, n_rows: int) -> pa.RecordBatch:
        assert self._current is not None
        piece = self._current
        if self._offset or n_rows < self._length:
            piece = piece.slice(self._offset, n_rows)
        self._offset += n_rows
        if self._offset == self._length:
            self._current = None  # release its memory as early as possible
        return piece

    def _gather(self, n_rows: int) -> pa.RecordBatch | None:
        pieces: list[pa.RecordBatch] = []
        missing = n_rows
        while missing:
            left = self._length - self._offset or self._advance()
            if left == 0:
                break
            pieces.append(self._cut(min(left, missing)))
            missing -= pieces[-1].num_rows
        if len(pieces) < 2:
            return pieces[0] if pieces else None
        return pa.concat_batches(pieces)

    def _advance(self) -> int:
        """Go to the next batch that has rows; return its length, 0 at the end."""
        self._current, self._offset, self._length = None, 0, 0
        for batch in self._batches:
            if batch.num_rows:
                self._current, self._length = batch, batch.num_rows
                break
        return self._length


class BatchReader(SplitReader):
    """`SplitReader` over an iterator of batches: exact slices, then filter and projection.

    Parameters
    ----------
    open_batches : callable
        Called once, at the first read, with the number of rows read at a time; gives
        batches of ``scan.read_columns`` from ``start`` on.
    scan : Scan
        The columns and rows to deliver.
    position : int
        Where in the split the reader starts.
    start : int
        Row of the split at which ``open_batches`` begins, at most ``position``; the
        rows between are dropped.
    """

    def __init__(
        self,
        open_batches: Callable[[int], Iterator[pa.RecordBatch]],
        scan: Scan,
        position: int = 0,
        start: int = 0,
    ) -> None:
        self._open_batches = open_batches
        self._scan = scan
        self._filtered = scan.predicate is not None
        self._slicer: RowSlicer | None = None
        self._closed = False
        self._start = start
        self.position = position

    def read(self, max_rows: int) -> Chunk | None:
        """Return the next ``max_rows`` rows (scanned), or None at the end."""
        if self._closed:
            return None
        batch = (self._slicer or self._open(max_rows)).take(max_rows)
        if batch is None:
            self.close()
            return None
        scanned = batch.num_rows
        self.position += scanned
        return Chunk(self._scan.apply(batch) if self._filtered else batch, scanned)

    def close(self) -> None:
        """Release the iterator, and with it the file."""
        self._closed = True
        self._slicer = None

    def _open(self, max_rows: int) -> RowSlicer:
        self._slicer = RowSlicer(self._open_batches(max_rows))
        self._slicer.skip(self.position - self._start)
        return self._slicer


class SkippedReader(SplitReader):
    """`SplitReader` of a split that is known to have no matching row: counts, decodes nothing."""

    def __init__(self, schema: pa.Schema, n_rows: int, position: int = 0) -> None:
        self._batch = empty_batch(schema)
        self._n_rows = n_rows
        self.position = position

    def read(self, max_rows: int) -> Chunk | None:
        """Return an empty batch for the next ``max_rows`` rows, or None at the end."""
        scanned = min(max_rows, self._n_rows - self.position)
        if scanned <= 0:
            return None
        self.position += scanned
        return Chunk(self._batch, scanned)

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
