"""HDF5 files: a table is a group of datasets of one length; a split is a range of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

import pyarrow as pa

from hpcstream.connectors.base import JSON, Split, SplitReader
from hpcstream.connectors.files.file_format import FileFormat, FileListing
from hpcstream.connectors.files.listing import Paths
from hpcstream.connectors.files.slicing import BatchReader
from hpcstream.connectors.files.source import FileSource
from hpcstream.connectors.files.time_bounds import Bounds, bounds_of_column
from hpcstream.connectors.formats.hdf5.stored import TableSpec
from hpcstream.connectors.formats.hdf5.table import opened
from hpcstream.connectors.scan import Scan, relabel

SPLIT_ROWS = 262_144
"""Rows of a split, at most."""

SPLIT_BYTES = 128 << 20
"""Bytes of a split's rows, at most, unless one row has more: a split is what ranks share, and
no batch is larger."""

EXTENSIONS = (".h5", ".hdf5", ".nxs")


def hdf5_source(
    paths: Paths,
    *,
    table: str = "/",
    columns: Mapping[str, str] | None = None,
    event_time: str | None = None,
    unit: str | None = None,
    split_rows: int = SPLIT_ROWS,
) -> FileSource:
    """Return a source of HDF5 files.

    Parameters
    ----------
    paths : path, glob, directory or list of these
    table : str
        Group whose datasets are the columns, or a compound dataset, whose fields are.
    columns : mapping of str to str, optional
        Name and path of each column instead: of a dataset, or of a field of a compound one.
        A path begins at ``table`` unless it begins with a slash.
    event_time : str, optional
        Column of event time. Its bounds are found by reading that column once, on one rank.
        Floats become times, to the nearest microsecond.
    unit : str, optional
        Its unit, if it is a number.
    split_rows : int
        Rows of a split, at most; fewer if they have more than `SPLIT_BYTES`.
    """
    if split_rows < 1:
        raise ValueError(f"split_rows must be at least 1, got {split_rows}")
    spec = TableSpec.of(table, columns, event_time, unit)
    return FileSource(paths, Hdf5Format(spec, split_rows), event_time=event_time, unit=unit)


class Hdf5Format(FileFormat):
    """`FileFormat` of HDF5."""

    name = "hdf5"
    extensions = EXTENSIONS

    def __init__(self, spec: TableSpec, split_rows: int = SPLIT_ROWS) -> None:
        self._spec = spec
        self._split_rows = split_rows

    def read_schema(self, path: str) -> pa.Schema:
        """Return the schema of the table in a file."""
        with opened(path, self._spec) as table:
            table.n_rows()
            table.check_storage()
            table.check_event_time()
            return table.schema

    def list_file(self, path: str, schema: pa.Schema, event_time: str | None) -> FileListing:
        """Return schema and splits; touches only the event-time column, if there is one."""
        with opened(path, self._spec) as table:
            n_rows = table.n_rows()
            table.check_storage()
            splits = []
            split_rows = min(self._split_rows, table.rows_of(SPLIT_BYTES))
            for start in range(0, n_rows, split_rows):
                length = min(split_rows, n_rows - start)
                bounds: Bounds = (None, None)
                if event_time in table.columns:
                    bounds = bounds_of_column(table.columns[event_time].read(start, length))
                info: dict[str, JSON] = {"path": path, "start": start}
                splits.append(Split(f"{path}#row{start}", info, length, *bounds))
            return FileListing(table.schema, splits)

    def open(self, split: Split, scan: Scan, position: int) -> SplitReader:
        """Return a reader that reads only the columns of the scan, and only from ``position``."""
        path, start = cast("str", split.info["path"]), cast("int", split.info["start"])
        assert split.n_rows is not None, "list_file counts the rows"
        stop = start + split.n_rows

        def batches(max_rows: int) -> Iterator[pa.RecordBatch]:
            names = scan.read_columns or scan.full_schema.names[:1]
            with opened(path, self._spec, names) as table:
                for at in range(start + position, stop, max_rows):
                    batch = table.read(names, at, min(max_rows, stop - at))
                    yield relabel(batch.select(scan.read_columns), scan.read_schema)

        return BatchReader(batches, scan, position, position)
