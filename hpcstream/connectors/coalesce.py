"""Coalesces many small batches into few blocks, and releases the memory they are views of."""

from __future__ import annotations

import pyarrow as pa

BLOCK_ROWS = 131_072
BLOCK_BYTES = 32 * 1024 * 1024
_SMALL_ROWS = 8_192
_COPY_AFTER = 64


class Coalescer:
    """Collects batches until they fill a block.

    Small batches are often views of an exchange's receive buffer: after every few of
    them they are copied together, so that the buffer can be used again.
    """

    def __init__(self, schema: pa.Schema, block_bytes: int = BLOCK_BYTES) -> None:
        self._schema = schema
        self._block_bytes = block_bytes
        self._batches: list[pa.RecordBatch] = []
        self._small: list[pa.RecordBatch] = []
        self._n_rows = 0
        self._n_bytes = 0

    def add(self, batch: pa.RecordBatch) -> pa.Table | None:
        """Add a batch; return a block if one is complete."""
        if batch.num_rows == 0:
            return None
        self._n_rows += batch.num_rows
        self._n_bytes += batch.nbytes
        if batch.num_rows >= _SMALL_ROWS:
            self._merge_small()
            self._batches.append(batch)
        else:
            self._small.append(batch)
            if len(self._small) == _COPY_AFTER:
                self._merge_small()
        if self._n_rows >= BLOCK_ROWS or self._n_bytes >= self._block_bytes:
            return self.flush()
        return None

    def flush(self) -> pa.Table | None:
        """Return the remaining rows as a table; None if there are none."""
        self._merge_small()
        batches, self._batches = self._batches, []
        self._n_rows = self._n_bytes = 0
        if not batches:
            return None
        return pa.Table.from_batches(batches, schema=self._schema).combine_chunks()

    def _merge_small(self) -> None:
        if self._small:
            self._batches.append(pa.concat_batches(self._small))
            self._small = []
