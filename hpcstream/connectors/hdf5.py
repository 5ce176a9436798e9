"""HDF5 files: a table is a group of datasets of one length; a split is a range of rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import pyarrow as pa

from hpcstream.connectors.base import JSON, Split, SplitReader
from hpcstream.connectors.file_source import FileListing, FileSource
from hpcstream.connectors.files import Paths, unreadable
from hpcstream.connectors.hdf5_columns import (
    SCHEMA,
    VALID,
    column_layout,
    from_values,
    schema_text,
    stored_schema,
    to_values,
)
from hpcstream.connectors.scan import Scan, plain_schema
from hpcstream.connectors.slicing import BatchReader
from hpcstream.connectors.time_bounds import Bounds, bounds_of_column
from hpcstream.errors import ConnectorError

SPLIT_ROWS = 262_144
"""Rows of a split."""

_CHUNK_BYTES = 1 << 20


def Hdf5Source(
    paths: Paths,
    *,
    table: str = "/",
    event_time: str | None = None,
    unit: str | None = None,
    split_rows: int = SPLIT_ROWS,
) -> FileSource:
    """Return a source of HDF5 files.

    Parameters
    ----------
    paths : path, glob, directory or list of these
    table : str
        Group whose datasets are the columns.
    event_time : str, optional
        Column of event time. Its bounds are found by reading that column once, on one rank.
    unit : str, optional
        Its unit, if it is int64.
    split_rows : int
        Rows of a split.
    """
    if split_rows < 1:
        raise ValueError(f"split_rows must be at least 1, got {split_rows}")
    return FileSource(paths, Hdf5Format(table, split_rows), event_time=event_time, unit=unit)


class Hdf5Format:
    """`FileFormat` of HDF5."""

    name = "hdf5"
    extensions = (".h5", ".hdf5")

    def __init__(self, table: str = "/", split_rows: int = SPLIT_ROWS) -> None:
        self._table = table
        self._split_rows = split_rows

    def read_schema(self, path: str) -> pa.Schema:
        """Return the schema of the table in a file."""
        with _opened(path, self._table) as group:
            return table_schema(group, path)

    def list_file(self, path: str, schema: pa.Schema, event_time: str | None) -> FileListing:
        """Return schema and splits; touches only the event-time column, if there is one."""
        with _opened(path, self._table) as group:
            found = table_schema(group, path)
            n_rows = group[found.names[0]].shape[0] if found.names else 0
            known = event_time if event_time in found.names else None
            splits = []
            for start in range(0, n_rows, self._split_rows):
                length = min(self._split_rows, n_rows - start)
                bounds: Bounds = (None, None)
                if known is not None:
                    column = read_column(group, known, found.field(known).type, start, length)
                    bounds = bounds_of_column(column)
                info: dict[str, JSON] = {"path": path, "start": start}
                splits.append(Split(f"{path}#row{start}", info, length, *bounds))
            return FileListing(found, splits)

    def open(self, split: Split, scan: Scan, position: int) -> SplitReader:
        """Return a reader that reads only the columns of the scan, and only from ``position``."""
        path, start = cast("str", split.info["path"]), cast("int", split.info["start"])
        assert split.n_rows is not None, "list_file counts the rows"
        stop = start + split.n_rows

        def batches(max_rows: int) -> Iterator[pa.RecordBatch]:
            schema = scan.read_schema
            with _opened(path, self._table) as group:
                names = schema.names or table_schema(group, path).names[:1]
                full = table_schema(group, path)
                for at in range(start + position, stop, max_rows):
                    length = min(max_rows, stop - at)
                    columns = [read_column(group, n, full.field(n).type, at, length) for n in names]
                    batch = pa.RecordBatch.from_arrays(columns, names=names)
                    yield (
                        batch.select(schema.names).cast(schema)
                        if schema.names
                        else (batch.select([]))
                    )

        return BatchReader(batches, scan, position, position)


@contextmanager
def _opened(path: str, table: str) -> Iterator[Any]:
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            if table not in file or not isinstance(file[table], h5py.Group):
                raise ConnectorError(f"{path!r} has no group {table!r}; it has {sorted(file)}")
            yield file[table]
    except (OSError, RuntimeError) as error:
        raise unreadable(path, "HDF5", error) from error


def table_schema(group: Any, path: str, *, same_length: bool = True) -> pa.Schema:
    """Return the schema of a table, as the engine has it."""
    where = f"{path}: {group.name}"
    return plain_schema(stored_schema(group, where, same_length=same_length), path)


def read_column(group: Any, name: str, data_type: pa.DataType, start: int, length: int) -> pa.Array:
    """Return rows of a column."""
    rows = slice(start, start + length)
    dataset = group[name]
    is_text = pa.types.is_string(data_type) or pa.types.is_large_string(data_type)
    values = dataset.asstr()[rows] if is_text else dataset[rows]
    if values.shape[0] != length:
        raise ConnectorError(f"{dataset.file.filename}: {name} is shorter than when it was listed")
    valid = group[name + VALID][rows] if name + VALID in group else None
    return from_values(values, valid, data_type)


@dataclass(frozen=True)
class Hdf5Parts:
    """`PartFormat` of HDF5; ``compression`` is None, ``"gzip"`` or ``"lzf"``.

    A part is kept in memory until it is closed.
    """

    table: str = "/"
    compression: str | None = None
    extension: str = "h5"

    def open(self, where: Any, schema: pa.Schema) -> Hdf5Writer:
        """Return a writer to a file object."""
        return Hdf5Writer(where, schema, self)


class Hdf5Writer:
    """Writes one file: `PartWriter`.

    Attributes
    ----------
    n_bytes : int
        Of the rows so far; the file itself gets its bytes when it is closed.
    """

    def __init__(self, where: Any, schema: pa.Schema, options: Hdf5Parts) -> None:
        import h5py

        self._where = where
        self._schema = pa.schema([pa.field(f.name, _decoded(f.type)) for f in schema])
        layouts = [column_layout(field.type) for field in self._schema]
        self._file = h5py.File.in_memory()
        self._group = self._file.require_group(options.table)
        self._group.attrs[SCHEMA] = schema_text(self._schema)
        self._n_rows = 0
        self.n_bytes = 0
        for field, (dtype, shape) in zip(self._schema, layouts, strict=True):
            self._create(field.name, dtype, shape, options.compression)

    def _create(
        self, name: str, dtype: Any, shape: tuple[int, ...], compression: str | None
    ) -> None:
        n_bytes = dtype.itemsize
        for length in shape:
            n_bytes *= max(length, 1)
        self._group.create_dataset(
            name,
            shape=(0, *shape),
            maxshape=(None, *shape),
            dtype=dtype,
            chunks=(max(1, min(_CHUNK_BYTES // n_bytes, 65_536)), *(max(n, 1) for n in shape)),
            compression=compression,
        )

    def write_table(self, table: pa.Table) -> None:
        """Append rows."""
        start, stop = self._n_rows, self._n_rows + table.num_rows
        for field in self._schema:
            column = table.column(field.name).combine_chunks()
            if pa.types.is_dictionary(column.type):
                column = column.dictionary_decode()
            values, valid = to_values(column)
            dataset = self._group[field.name]
            dataset.resize(stop, axis=0)
            dataset[start:stop] = values
            self.n_bytes += column.nbytes
            self._write_valid(field.name, valid, start, stop)
        self._n_rows = stop

    def _write_valid(self, name: str, valid: Any, start: int, stop: int) -> None:
        """Keep which values are null, from the first one on."""
        place = name + VALID
        if valid is None and place not in self._group:
            return
        if place not in self._group:
            self._group.create_dataset(
                place, shape=(start,), maxshape=(None,), dtype="u1", fillvalue=1, chunks=(65_536,)
            )
        self._group[place].resize(stop, axis=0)
        if valid is not None:
            self._group[place][start:stop] = valid

    def close(self) -> None:
        """Complete the file."""
        if self._file:
            self._file.flush()
            image = self._file.id.get_file_image()
            self._file.close()
            self._where.write(image)


def _decoded(data_type: pa.DataType) -> pa.DataType:
    return data_type.value_type if pa.types.is_dictionary(data_type) else data_type
