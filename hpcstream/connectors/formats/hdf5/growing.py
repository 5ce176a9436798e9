"""HDF5 files that another process is still writing: followed in SWMR mode, as rows appear.

The writer opens the file with ``libver="latest"``, makes its datasets, sets
``file.swmr_mode = True``, and appends: resize, write, flush. A row counts once every
column has it. A file has ended when nothing was appended for a while.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import pyarrow as pa

from hpcstream.connectors.base import Chunk, Split, SplitReader
from hpcstream.connectors.files.file_format import FileFormat, FileListing
from hpcstream.connectors.files.listing import Paths
from hpcstream.connectors.files.source import FileSource
from hpcstream.connectors.formats.hdf5.format import EXTENSIONS, SPLIT_BYTES
from hpcstream.connectors.formats.hdf5.stored import TableSpec
from hpcstream.connectors.formats.hdf5.table import Hdf5Table
from hpcstream.connectors.scan import Scan, empty_batch, relabel
from hpcstream.errors import ConnectorError

LOOK_EVERY_S = 0.02
REOPEN_AFTER_S = 1.0
"""A file that did not grow for so long is opened afresh: a refresh was seen to miss rows for
seconds on a busy machine, and a file must not be taken for ended because of that."""


def growing_hdf5_source(
    paths: Paths,
    *,
    follow_s: float,
    table: str = "/",
    columns: Mapping[str, str] | None = None,
    event_time: str | None = None,
    unit: str | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> FileSource:
    """Return a live source of HDF5 files that grow.

    Parameters
    ----------
    follow_s : float
        A file that has not grown for this time has ended.

    See `hdf5_source` for the others.
    """
    if follow_s <= 0:
        raise ValueError(f"follow must be positive, got {follow_s:g} s")
    growing = GrowingHdf5Format(TableSpec.of(table, columns, event_time, unit), follow_s, clock)
    return FileSource(paths, growing, event_time=event_time, unit=unit)


class GrowingHdf5Format(FileFormat):
    """`FileFormat` of HDF5 files that grow: each is one split, read as rows appear."""

    name = "hdf5"
    extensions = EXTENSIONS
    bounded = False

    def __init__(self, spec: TableSpec, follow_s: float, clock: Callable[[], float]) -> None:
        self._spec = spec
        self._follow_s = follow_s
        self._clock = clock

    def read_schema(self, path: str) -> pa.Schema:
        """Return the schema of the table in a file, whose columns may differ in length."""
        with _Growing(path, self._spec) as growing:
            return growing.schema

    def list_file(self, path: str, schema: pa.Schema, event_time: str | None) -> FileListing:
        """Return the schema and one split."""
        return FileListing(self.read_schema(path), [Split(path, {"path": path})])

    def open(self, split: Split, scan: Scan, position: int) -> GrowingReader:
        """Return a reader."""
        growing = _Growing(cast("str", split.info["path"]), self._spec)
        return GrowingReader(growing, scan, position, self._follow_s, self._clock)


class _Growing:
    """A table in a file that grows. A context manager."""

    def __init__(self, path: str, spec: TableSpec) -> None:
        import h5py

        self.path, self._spec = path, spec
        try:
            self._file = h5py.File(path, "r", libver="latest", swmr=True, locking=False)
        except (OSError, ValueError) as error:
            raise ConnectorError(
                f"{path!r} cannot be followed: {error}; its writer must use libver='latest' and "
                "swmr_mode=True"
            ) from error
        self._table = Hdf5Table(self._file, spec)
        self._table.check_filters()
        self.schema = self._table.schema
        self.most_rows = self._table.rows_of(SPLIT_BYTES)
        self._datasets = [d for column in self._table.columns.values() for d in column.datasets]

    def __enter__(self) -> _Growing:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def reopened(self) -> _Growing:
        """Close the file and open it again in its present state."""
        self.close()
        return _Growing(self.path, self._spec)

    def n_rows(self) -> int:
        """Return the number of rows that all columns have now."""
        for dataset in self._datasets:
            dataset.id.refresh()
        return min(int(dataset.shape[0]) for dataset in self._datasets)

    def read(self, names: Sequence[str], start: int, length: int) -> pa.RecordBatch:
        """Return rows of some columns."""
        return self._table.read(names, start, length)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class GrowingReader(SplitReader):
    """`SplitReader` of a file that grows."""

    def __init__(
        self,
        growing: Any,
        scan: Scan,
        position: int,
        follow_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._growing = growing
        self._scan = scan
        self._nothing = Chunk(empty_batch(scan.schema), 0)
        self._follow_s = follow_s
        self._clock = clock
        self._n_rows = 0
        self._grown_s, self._looked_s = clock(), -math.inf
        self._reopened_s = self._grown_s
        self.position = position

    def read(self, max_rows: int) -> Chunk | None:
        """Return available rows; None if the file has not grown for long enough."""
        now_s = self._clock()
        if self.position >= self._n_rows and now_s - self._looked_s >= LOOK_EVERY_S:
            self._look(now_s)
            if now_s - max(self._grown_s, self._reopened_s) >= REOPEN_AFTER_S:
                self._reopen(now_s)
        length = min(max_rows, self._n_rows - self.position, self._growing.most_rows)
        if length > 0:
            return self._rows(length)
        has_ended = now_s - self._grown_s >= self._follow_s
        if has_ended and self._reopened_s != now_s:
            self._reopen(now_s)
            has_ended = self.position >= self._n_rows
        if has_ended and self.position > self._n_rows:
            raise ConnectorError(
                f"{self._growing.path!r} has {self._n_rows:,} rows, but {self.position:,} were "
                "read before: was it replaced?"
            )
        return None if has_ended else self._nothing

    def _reopen(self, now_s: float) -> None:
        self._growing, self._reopened_s = self._growing.reopened(), now_s
        self._look(now_s)

    def _look(self, now_s: float) -> None:
        n_rows, self._looked_s = self._growing.n_rows(), now_s
        if n_rows > self._n_rows:
            self._n_rows, self._grown_s = n_rows, now_s

    def _rows(self, length: int) -> Chunk:
        names = self._scan.read_columns or self._scan.full_schema.names[:1]
        batch = self._growing.read(names, self.position, length)
        batch = relabel(batch.select(self._scan.read_columns), self._scan.read_schema)
        self.position += length
        return Chunk(self._scan.apply(batch), length)

    def close(self) -> None:
        """Close the file."""
        self._growing.close()
