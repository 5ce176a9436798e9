"""A source for benchmarks: an Arrow IPC file read over and over, each time later in event time.

Nothing is copied but the column of times, to which each replay adds its shift. Its record
batches are looked up in the file once, for Arrow asks the kernel to read ahead each time.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.connectors.base import Chunk, Split

TIME = "ts"


class ReplaySource:
    """`hpcstream.connectors.base.Source` of a file replayed ``passes`` times.

    A split is one record batch of one pass.

    Parameters
    ----------
    path : Path
        An uncompressed Arrow IPC file with an int64 column ``ts`` of event time.
    passes : int
        How many times it is read.
    period : int
        What each pass adds to the event time of the one before.
    """

    bounded = True

    def __init__(self, path: Path, passes: int, period: int) -> None:
        self.path, self.passes, self.period = path, passes, period
        self._names: tuple[str, ...] = tuple(self._file.schema.names)
        self._batches: dict[int, pa.RecordBatch] = {}

    @cached_property
    def _file(self) -> pa.RecordBatchFileReader:
        return pa.ipc.open_file(pa.memory_map(str(self.path)))

    @property
    def schema(self) -> pa.Schema:
        """Of the batches delivered."""
        return pa.schema([self._file.schema.field(name) for name in self._names])

    def describe(self) -> str:
        """Return what is read."""
        return f"replay({self.path.name}, {self.passes} times, columns {', '.join(self._names)})"

    def list_splits(self) -> list[Split]:
        """Return the record batches of all passes, in event-time order."""
        batches = [self._batch(i) for i in range(self._file.num_record_batches)]
        bounds = [pc.min_max(batch.column(TIME)).as_py() for batch in batches]
        return [
            Split(
                f"pass{k}#batch{i}",
                {"pass": k, "batch": i},
                batch.num_rows,
                bounds[i]["min"] + k * self.period,
                bounds[i]["max"] + k * self.period,
            )
            for k in range(self.passes)
            for i, batch in enumerate(batches)
        ]

    def open(self, split: Split, position: int = 0) -> ReplayReader:
        """Return a reader of one record batch."""
        batch = self._batch(split.info["batch"]).select(list(self._names))
        return ReplayReader(batch, split.info["pass"] * self.period, position)

    def _batch(self, number: int) -> pa.RecordBatch:
        if number not in self._batches:
            self._batches[number] = self._file.get_batch(number)
        return self._batches[number]

    def project(self, columns: Sequence[str]) -> ReplaySource:
        """Return a source of these columns."""
        other = copy.copy(self)
        other._names = tuple(columns)
        return other

    def filter(self, predicate: pc.Expression) -> None:
        """Leave filtering to the engine."""


class ReplayReader:
    """`SplitReader` of one record batch, with its times shifted."""

    def __init__(self, batch: pa.RecordBatch, shift: int, position: int) -> None:
        self._batch, self._shift = batch, shift
        self._time = batch.schema.get_field_index(TIME)
        self.position = position

    def read(self, max_rows: int) -> Chunk | None:
        """Return the next rows: views of the file but for their times."""
        if self.position >= self._batch.num_rows:
            return None
        batch = self._batch.slice(self.position, max_rows)
        self.position += batch.num_rows
        if self._time >= 0 and self._shift:
            batch = self._shifted(batch)
        return Chunk(batch, batch.num_rows)

    def close(self) -> None:
        """There is nothing to release: the source keeps the file mapped."""

    def _shifted(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = list(batch.columns)
        times = columns[self._time].to_numpy() + np.int64(self._shift)
        columns[self._time] = pa.Array.from_buffers(
            pa.int64(), len(times), [None, pa.py_buffer(times)]
        )
        return pa.RecordBatch.from_arrays(columns, schema=batch.schema)
