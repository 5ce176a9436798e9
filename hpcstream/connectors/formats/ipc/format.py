"""Arrow IPC files, memory mapped: a split is a range of rows of one file.

Uncompressed files are never copied: batches are views of the mapped file, and a
large record batch is cut into several splits so that ranks can share it. A
compressed record batch is decoded as a whole, so splits end where batches end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

import pyarrow as pa

from hpcstream.connectors.base import JSON, Split, SplitReader
from hpcstream.connectors.files.file_format import FileFormat, FileListing
from hpcstream.connectors.files.listing import Paths, native, unreadable
from hpcstream.connectors.files.slicing import BatchReader
from hpcstream.connectors.files.source import FileSource
from hpcstream.connectors.files.split_sizes import IPC_SPLIT_ROWS
from hpcstream.connectors.files.time_bounds import Bounds, bounds_of_column, merged
from hpcstream.connectors.scan import Scan, plain_schema, relabel
from hpcstream.errors import ConnectorError

_MAGIC = b"ARROW1"


def ipc_source(
    paths: Paths,
    *,
    event_time: str | None = None,
    unit: str | None = None,
    split_rows: int = IPC_SPLIT_ROWS,
) -> FileSource:
    """Return a source of Arrow IPC files (also called Feather version 2) or IPC streams.

    Parameters
    ----------
    paths : path, glob, directory or list of these
    event_time : str, optional
        Column of event time. Its bounds are found by reading that column once, on one rank.
    unit : str, optional
        Its unit, if it is int64.
    split_rows : int
        Rows of a split, about.
    """
    if split_rows < 1:
        raise ValueError(f"split_rows must be at least 1, got {split_rows}")
    return FileSource(paths, IpcFormat(split_rows), event_time=event_time, unit=unit)


@dataclass(frozen=True)
class _Piece:
    """Rows ``skip`` to ``skip + n_rows`` of record batch ``batch``."""

    batch: int
    skip: int
    n_rows: int
    bounds: Bounds


class IpcFormat(FileFormat):
    """`FileFormat` of Arrow IPC, random access and stream."""

    name = "ipc"
    extensions = (".arrow", ".feather", ".ipc", ".arrows")

    def __init__(self, split_rows: int = IPC_SPLIT_ROWS) -> None:
        self._split_rows = split_rows

    def read_schema(self, path: str) -> pa.Schema:
        """Return the schema of a file."""
        with _opened(path) as file:
            return file.schema

    def list_file(self, path: str, schema: pa.Schema, event_time: str | None) -> FileListing:
        """Return schema and splits; touches only the event-time column, if there is one."""
        with _opened(path) as file:
            known = event_time if event_time in file.schema.names else None
            wanted = [known] if known else file.schema.names[:1]
            pieces: list[_Piece] = []
            for i, batch in enumerate(file.batches(wanted)):
                step = max(batch.num_rows, 1) if file.is_compressed else self._split_rows
                pieces += [
                    _piece(batch.slice(skip, step), i, skip, known)
                    for skip in range(0, batch.num_rows, step)
                ]
            limit = 2**63 if file.is_stream else self._split_rows
            return FileListing(file.schema, _join(path, pieces, limit))

    def open(self, split: Split, scan: Scan, position: int) -> SplitReader:
        """Return a reader whose batches are views of the mapped file if it is not compressed."""
        path, batch, skip = (split.info[key] for key in ("path", "batch", "skip"))
        start = cast("int", batch), cast("int", skip)
        assert split.n_rows is not None, "list_file counts the rows"
        n_rows = split.n_rows

        def batches(max_rows: int) -> Iterator[pa.RecordBatch]:
            return _read(cast("str", path), scan, start, n_rows)

        return BatchReader(batches, scan, position)


class _IpcFile:
    """A mapped file, and the fastest way to read its record batches."""

    def __init__(self, path: str, mapped: pa.MemoryMappedFile) -> None:
        if mapped.size() == 0:
            raise ConnectorError(f"{path!r} is empty (0 bytes); an Arrow IPC file has a schema")
        self._mapped = mapped
        self.is_stream = mapped.read(len(_MAGIC)) != _MAGIC
        reader = self._reader()
        self.schema = plain_schema(reader.schema, path)
        self.is_compressed = not self.is_stream and self._is_compressed(reader)

    def batches(self, names: Sequence[str], first: int = 0) -> Iterator[pa.RecordBatch]:
        """Yield these columns of the record batches from number ``first`` on.

        Arrow copies when told which fields to read, so it is told only where that saves
        decompressing the others.
        """
        if self.is_stream:
            for batch in islice(self._reader(), first, None):
                yield batch.select(names)
            return
        fields = [self.schema.get_field_index(name) for name in names]
        only = fields if self.is_compressed and fields else None
        reader = self._reader(pa.ipc.IpcReadOptions(included_fields=only, use_threads=False))
        for i in range(first, reader.num_record_batches):
            yield reader.get_batch(i).select(names)

    def _reader(self, options: pa.ipc.IpcReadOptions | None = None) -> Any:
        self._mapped.seek(0)
        read = pa.ipc.open_stream if self.is_stream else pa.ipc.open_file
        return read(self._mapped, options=options)

    def _is_compressed(self, reader: pa.ipc.RecordBatchFileReader) -> bool:
        """Whether the first record batch with any data is not a view of the file."""
        self._mapped.seek(0)
        start: int = self._mapped.read_buffer(1).address
        stop = start + self._mapped.size()
        for batch in map(reader.get_batch, range(reader.num_record_batches)):
            known = [i for i, field in enumerate(batch.schema) if _is_known(field.type)]
            buffers = [b for i in known for b in batch.column(i).buffers() if b and b.size]
            if buffers:
                return not all(start <= buffer.address < stop for buffer in buffers)
        return False


def _is_known(data_type: pa.DataType) -> bool:
    """Whether pyarrow has arrays of a type: for some intervals it has none."""
    return not any(name in str(data_type) for name in ("month_interval", "day_time_interval"))


def _refuse_unknown_types(schema: pa.Schema, path: str) -> None:
    for field in schema:
        if not _is_known(field.type):
            raise ConnectorError(
                f"{path!r}: column {field.name!r} is of type {field.type}, which no column "
                "can hold; select() the other columns, or write it as a number"
            )


@contextmanager
def _opened(path: str) -> Iterator[_IpcFile]:
    """Map a file; name it if reading fails."""
    try:
        with pa.memory_map(native(path)) as mapped:
            yield _IpcFile(path, mapped)
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, "Arrow IPC", error) from error


def _piece(rows: pa.RecordBatch, batch: int, skip: int, event_time: str | None) -> _Piece:
    bounds = bounds_of_column(rows.column(event_time)) if event_time else (None, None)
    return _Piece(batch, skip, rows.num_rows, bounds)


def _join(path: str, pieces: list[_Piece], split_rows: int) -> list[Split]:
    """Join neighbours up to ``split_rows``."""
    splits: list[Split] = []
    open_pieces: list[_Piece] = []
    for piece in pieces:
        if open_pieces and _rows(open_pieces) + piece.n_rows > split_rows:
            splits.append(_split(path, open_pieces))
            open_pieces = []
        open_pieces.append(piece)
    if open_pieces:
        splits.append(_split(path, open_pieces))
    return splits


def _rows(pieces: list[_Piece]) -> int:
    return sum(piece.n_rows for piece in pieces)


def _split(path: str, pieces: list[_Piece]) -> Split:
    bounds: Bounds = (None, None)
    for piece in pieces:
        bounds = merged(bounds, piece.bounds)
    if any(piece.bounds[0] is None for piece in pieces):
        bounds = (None, None)
    first = pieces[0]
    where = f"{path}#batch{first.batch}" + (f"+{first.skip}" if first.skip else "")
    info: dict[str, JSON] = {"path": path, "batch": first.batch, "skip": first.skip}
    return Split(where, info, _rows(pieces), *bounds)


def _read(path: str, scan: Scan, start: tuple[int, int], n_rows: int) -> Iterator[pa.RecordBatch]:
    """Yield ``n_rows`` rows from (record batch, row in it) ``start`` on."""
    schema = scan.read_schema
    first, skip = start
    left = n_rows
    _refuse_unknown_types(schema, path)
    with _opened(path) as file:
        for batch in file.batches(schema.names, first):
            batch.validate()  # buffers of a damaged file may end before their values do
            rows = relabel(batch.slice(skip, left), schema)
            skip = 0
            left -= rows.num_rows
            yield rows
            if left <= 0:
                return
    raise ConnectorError(f"{path!r} has {left} rows less than when it was listed")
