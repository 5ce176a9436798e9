"""File sinks of each format."""

from __future__ import annotations

import os
from typing import Any

from hpcstream.connectors.parts.formats import CsvParts, IpcParts, ParquetParts
from hpcstream.connectors.parts.sink import FileSink, Mode

HDF5_PART_BYTES = 256 << 20


def parquet_sink(
    path: str | os.PathLike[str],
    *,
    mode: Mode = "overwrite",
    compression: str = "snappy",
    max_rows: int | None = None,
    max_bytes: int | None = None,
    **options: Any,
) -> FileSink:
    """Return a sink of Parquet parts. ``options`` go to `pyarrow.parquet.ParquetWriter`.

    See `FileSink` for the others.
    """
    parts = ParquetParts({"compression": compression, **options})
    return FileSink(path, parts, mode=mode, max_rows=max_rows, max_bytes=max_bytes)


def ipc_sink(
    path: str | os.PathLike[str],
    *,
    mode: Mode = "overwrite",
    compression: str | None = None,
    max_rows: int | None = None,
    max_bytes: int | None = None,
) -> FileSink:
    """Return a sink of Arrow IPC parts; ``compression`` is None, ``"lz4"`` or ``"zstd"``.

    See `FileSink` for the others.
    """
    return FileSink(path, IpcParts(compression), mode=mode, max_rows=max_rows, max_bytes=max_bytes)


def csv_sink(
    path: str | os.PathLike[str],
    *,
    mode: Mode = "overwrite",
    delimiter: str = ",",
    header: bool = True,
    max_rows: int | None = None,
    max_bytes: int | None = None,
) -> FileSink:
    """Return a sink of CSV parts.

    See `FileSink` for the others.
    """
    parts = CsvParts(delimiter, header)
    return FileSink(path, parts, mode=mode, max_rows=max_rows, max_bytes=max_bytes)


def hdf5_sink(
    path: str | os.PathLike[str],
    *,
    mode: Mode = "overwrite",
    table: str = "/",
    compression: str | None = None,
    max_rows: int | None = None,
    max_bytes: int = HDF5_PART_BYTES,
) -> FileSink:
    """Return a sink of HDF5 parts: in group ``table`` one dataset a column.

    ``compression`` is None, ``"gzip"`` or ``"lzf"``. A part is kept in memory until it is
    complete, so it has at most ``max_bytes`` of rows, about. See `FileSink` for the others.
    """
    from hpcstream.connectors.formats.hdf5.writer import Hdf5Parts

    parts = Hdf5Parts(table, compression)
    return FileSink(path, parts, mode=mode, max_rows=max_rows, max_bytes=max_bytes)
