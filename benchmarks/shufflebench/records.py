"""Records of random bytes, as columns for `Job.generate`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from benchmarks.nexmark.texts import POOL_BYTES, repeated_pool
from hpcstream import generators as g

_BINARY = pa.binary()
HEAD_BYTES = 16
"""Of a record, as two numbers of 8 bytes: what it is matched by. The rest is its payload."""


def columns(seed: int, per_second: int, record_bytes: int) -> dict[str, g.ColumnGenerator]:
    """Return the columns of a record: its time, its head in two words, its other bytes."""
    word = g.integers(-(2**63), 2**63)
    return {
        "time": g.times(per_second=per_second, unit="ms"),
        "first": word,
        "second": word,
        "payload": _Payload(seed, max(record_bytes - HEAD_BYTES, 0)),
    }


def table(made: dict[str, g.ColumnGenerator], seed: int, rows: int, names: list[str]) -> pa.Table:
    """Return columns as a table: the rows that `Job.generate` delivers with the seed."""
    arrays = [made[name].values(0, rows, g.column_seed(seed, name)) for name in names]
    return pa.table(arrays, names=names)


@dataclass(frozen=True)
class _Payload:
    """Bytes from a pool that repeats: each row has those behind the row before, uncopied."""

    seed: int
    n_bytes: int
    type: pa.DataType = _BINARY

    def values(self, start: int, n_rows: int, seed: int, stride: int = 1) -> pa.Array:
        if stride > 1:
            every = self.values(start, n_rows * stride, seed)
            return every.take(pa.array(np.arange(0, n_rows * stride, stride)))
        first = start * self.n_bytes % POOL_BYTES
        offsets = (first + np.arange(n_rows + 1, dtype=np.int64) * self.n_bytes).astype(np.int32)
        data = repeated_pool(self.seed, "", int(offsets[-1]))
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
        return pa.Array.from_buffers(self.type, n_rows, buffers)
