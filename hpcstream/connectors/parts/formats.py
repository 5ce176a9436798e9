"""The formats in which a file sink writes its parts."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hpcstream.connectors.formats.csv.options import check_delimiter
from hpcstream.connectors.formats.csv.writing import CsvWriter
from hpcstream.connectors.formats.ipc.writer import IpcWriter, refuse_float_dictionaries
from hpcstream.connectors.formats.parquet.written import marked
from hpcstream.connectors.formats.part_format import PartFormat, PartWriter
from hpcstream.errors import ConnectorError


@dataclass(frozen=True)
class ParquetParts(PartFormat):
    """Parquet; ``options`` go to `pyarrow.parquet.ParquetWriter`."""

    options: Mapping[str, Any]
    extension = "parquet"

    def open(self, where: Any, schema: pa.Schema) -> PartWriter:
        """Return a Parquet writer."""
        return _ParquetWriter(pq.ParquetWriter(where, marked(schema), **self.options), schema)


class _ParquetWriter(PartWriter):
    """Writes tables under a schema that has a mark in its metadata."""

    def __init__(self, writer: Any, schema: pa.Schema) -> None:
        self._writer = writer
        self._schema = marked(schema)

    def write_table(self, table: pa.Table) -> None:
        self._writer.write_table(table.replace_schema_metadata(self._schema.metadata))

    def close(self) -> None:
        self._writer.close()


def writer_options() -> list[str]:
    """Return the options of `pyarrow.parquet.ParquetWriter`."""
    names = inspect.signature(pq.ParquetWriter.__init__).parameters
    return [name for name in names if name not in ("self", "where", "schema", "options")]


@dataclass(frozen=True)
class IpcParts(PartFormat):
    """The Arrow IPC file format; ``compression`` is None, ``"lz4"`` or ``"zstd"``."""

    compression: str | None = None
    extension = "arrow"

    def open(self, where: Any, schema: pa.Schema) -> PartWriter:
        """Return an IPC file writer."""
        for field in schema:
            refuse_float_dictionaries(field.name, field.type)
        options = pa.ipc.IpcWriteOptions(compression=self.compression, emit_dictionary_deltas=True)
        return IpcWriter(pa.ipc.new_file(where, schema, options=options))


@dataclass(frozen=True)
class CsvParts(PartFormat):
    """Comma-separated values with a header line in each part."""

    delimiter: str = ","
    header: bool = True
    extension = "csv"

    def __post_init__(self) -> None:
        check_delimiter("write_csv", self.delimiter)

    def open(self, where: Any, schema: pa.Schema) -> PartWriter:
        """Return a CSV writer."""
        return CsvWriter(where, schema, self.delimiter, header=self.header)


def check_format(part_format: PartFormat, schema: pa.Schema, path: str | os.PathLike[str]) -> None:
    """Raise `ConnectorError` if a format cannot hold the columns, before any row is written."""
    error = _failure(part_format, schema)
    if error is None:
        return
    if _failure(part_format, pa.schema({"x": pa.int64()})) is not None:
        raise ConnectorError(
            f"{part_format.extension} cannot be written to {os.fspath(path)!r} with the options "
            f"given: {error}; see those of the sink"
        ) from error
    raise ConnectorError(
        f"{part_format.extension} cannot hold the columns written to {os.fspath(path)!r}: "
        f"{error}; cast or drop them with select()"
    ) from error


def _failure(part_format: PartFormat, schema: pa.Schema) -> Exception | None:
    """Return what goes wrong when a file without rows is written."""
    try:
        writer = part_format.open(pa.BufferOutputStream(), schema)
        writer.write_table(schema.empty_table())
        writer.close()
    except (pa.ArrowException, TypeError) as error:
        return error
    return None
