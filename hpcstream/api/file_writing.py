"""The sinks of files that a `hpcstream.api.stream.Stream` ends in."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Never

from hpcstream.api.misuse import refuse_unknown_options
from hpcstream.calls import answers_wrong_calls
from hpcstream.connectors.parts.formats import writer_options
from hpcstream.connectors.parts.sink import FileSink, Mode
from hpcstream.connectors.parts.sinks import (
    HDF5_PART_BYTES,
    csv_sink,
    hdf5_sink,
    ipc_sink,
    parquet_sink,
)


@answers_wrong_calls
class FileWriting(ABC):
    """Methods ``write_<format>``; `_written_to` ends a stream in the sink that they make."""

    @abstractmethod
    def _written_to(self, sink: FileSink) -> None:
        """Write the rows to a sink."""

    def write_parquet(
        self,
        path: str | Path,
        mode: Mode = "overwrite",
        *,
        compression: str = "snappy",
        max_rows: int | None = None,
        max_bytes: int | None = None,
        **options: Any,
    ) -> None:
        """Write Parquet parts into a directory; visible when the job has ended.

        `Job.read_parquet` reads back what was written: seconds, date64 and dictionaries,
        too, of which Parquet has none.

        Parameters
        ----------
        path : path
            A directory; made if it is not there.
        mode : {"overwrite", "append", "error"}
            ``"overwrite"`` replaces parts that hpcstream wrote, and nothing else;
            ``"append"`` adds; ``"error"`` refuses if there are any.
        compression : str
            ``"snappy"``, ``"zstd"``, ``"gzip"``, ``"lz4"``, ``"brotli"`` or ``"none"``.
        max_rows, max_bytes : int, optional
            Start a new part at this many rows (exactly), or bytes written (about).
        **options
            Those of `pyarrow.parquet.ParquetWriter`.
        """
        options |= {"compression": compression, "max_rows": max_rows, "max_bytes": max_bytes}
        self._write("write_parquet", parquet_sink, path, mode=mode, **options)

    def write_ipc(
        self,
        path: str | Path,
        mode: Mode = "overwrite",
        *,
        compression: str | None = None,
        max_rows: int | None = None,
        max_bytes: int | None = None,
        **unknown: Never,
    ) -> None:
        """Write Arrow IPC files into a directory; other arguments as for `write_parquet`.

        Parameters
        ----------
        compression : {None, "lz4", "zstd"}
        """
        options: dict[str, Any] = {"compression": compression, **unknown}
        options |= {"max_rows": max_rows, "max_bytes": max_bytes}
        self._write("write_ipc", ipc_sink, path, mode=mode, **options)

    def write_csv(
        self,
        path: str | Path,
        mode: Mode = "overwrite",
        *,
        delimiter: str = ",",
        header: bool = True,
        max_rows: int | None = None,
        max_bytes: int | None = None,
        **unknown: Never,
    ) -> None:
        """Write CSV files into a directory; other arguments as for `write_parquet`.

        `Job.read_csv` reads back what was written, given the types. Text is quoted, null is
        an empty field, NaN is ``nan``.

        Parameters
        ----------
        delimiter : str
            One character between fields.
        header : bool
            Whether the first line of each file names the columns.
        """
        options: dict[str, Any] = {"delimiter": delimiter, "header": header, **unknown}
        options |= {"max_rows": max_rows, "max_bytes": max_bytes}
        self._write("write_csv", csv_sink, path, mode=mode, **options)

    def write_hdf5(
        self,
        path: str | Path,
        mode: Mode = "overwrite",
        *,
        table: str = "/",
        compression: str | None = None,
        max_rows: int | None = None,
        max_bytes: int = HDF5_PART_BYTES,
        **unknown: Never,
    ) -> None:
        """Write a directory of HDF5 files, a dataset a column; as `write_parquet` otherwise.

        Parameters
        ----------
        table : str
            Group of the datasets.
        compression : {None, "gzip", "lzf"}
        max_rows, max_bytes : int, optional
            A file has no more rows than that, and about so many bytes, which are in
            memory until it is complete.
        """
        options: dict[str, Any] = {"table": table, "compression": compression}
        options |= {"max_rows": max_rows, "max_bytes": max_bytes, **unknown}
        self._write("write_hdf5", hdf5_sink, path, mode=mode, **options)

    def _write(self, what: str, make: Callable[..., FileSink], path: Any, **options: Any) -> None:
        known = [*inspect.signature(make).parameters]
        if make is parquet_sink:
            known += writer_options()
        refuse_unknown_options(what, options, known, f"help(Stream.{what})")
        self._written_to(make(path, **options))
