"""Newline-delimited JSON files: one object a line; a split is a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import pyarrow as pa

from hpcstream.columns.types.given import SchemaLike, TypesByName, given_schema, given_types
from hpcstream.connectors.base import Split
from hpcstream.connectors.files.file_format import FileListing, SequentialFormat
from hpcstream.connectors.files.listing import Paths, with_compressed
from hpcstream.connectors.files.source import FileSource
from hpcstream.connectors.files.split_sizes import TEXT_BLOCK_BYTES
from hpcstream.connectors.formats.json.columns import refuse_columns
from hpcstream.connectors.formats.json.lines import JsonFile, JsonShape, first_bad_line, is_blank
from hpcstream.connectors.formats.json.types import as_text, integer_beyond_int64, with_times
from hpcstream.connectors.formats.text_file import UTF8, encoding_name
from hpcstream.connectors.scan import Scan, plain_schema, relabel
from hpcstream.errors import ConnectorError


def json_source(
    paths: Paths,
    *,
    schema: SchemaLike | None = None,
    column_types: TypesByName | None = None,
    encoding: str = UTF8,
    block_bytes: int = TEXT_BLOCK_BYTES,
    event_time: str | None = None,
    unit: str | None = None,
) -> FileSource:
    """Return a source of newline-delimited JSON files, compressed ones included.

    Parameters
    ----------
    paths : path, glob, directory or list of these
    schema : pa.Schema or types by name, optional
        The fields to read; others in the files are ignored. If not given, the fields
        are those of the first block of the first file, and a later one is an error.
        A field that a line lacks is null.
    column_types : Mapping[str, pa.DataType], optional
        Types of some fields, the others being inferred; one that the first block lacks is
        read all the same.
    encoding : str
        Of the files, as ``"utf-16"``; Python's names.
    block_bytes : int
        Bytes read at a time; a line must be shorter.
    event_time, unit : str, optional
        Event-time column, and its unit if it is int64.
    """
    where = "read_json(schema=)"
    given = None if schema is None else plain_schema(given_schema(schema, where), where)
    types = given_types(column_types or {}, "read_json(column_types=)")
    if block_bytes < 2:
        raise ValueError(f"read_json(block_bytes={block_bytes}): expected at least 2")
    file_format = JsonFormat(given, types, encoding_name(encoding), block_bytes)
    return FileSource(paths, file_format, event_time=event_time, unit=unit, schema=given)


class JsonFormat(SequentialFormat):
    """`FileFormat` of newline-delimited JSON; arguments as for `json_source`."""

    name = "json"
    extensions = with_compressed(".json", ".jsonl", ".ndjson")

    def __init__(
        self,
        schema: pa.Schema | None = None,
        column_types: Mapping[str, pa.DataType] | None = None,
        encoding: str = UTF8,
        block_bytes: int = TEXT_BLOCK_BYTES,
    ) -> None:
        self._inferred = schema is None
        self._column_types = column_types or {}
        self._encoding = encoding
        self._block_bytes = block_bytes
        self._without_values: set[str] = set()

    def read_schema(self, path: str) -> pa.Schema:
        """Return the schema inferred from the first block of a file."""
        refuse_columns(path, self._encoding, self._block_bytes, self._column_types)
        if is_blank(path, self._encoding):
            raise ConnectorError(f"{path!r} has no rows to infer fields from; give schema=")
        self._refuse_long_integers(path)
        given = [(name, as_text(data_type)) for name, data_type in self._column_types.items()]
        found = self._first(path, JsonShape(pa.schema(given), "infer")).schema
        found = plain_schema(found, path)
        texts = [f.with_type(as_text(f.type)) for f in found]
        block = self._first(path, JsonShape(pa.schema(texts), "ignore"))
        types = [self._column_types.get(f.name) or with_times(block[f.name]) for f in found]
        self._without_values = {f.name for f in found if pa.types.is_null(f.type)}
        return pa.schema(
            [f.with_type(data_type) for f, data_type in zip(found, types, strict=True)]
        )

    def _refuse_long_integers(self, path: str) -> None:
        with closing(JsonFile(path, self._encoding)) as file:
            found = integer_beyond_int64(file.read(self._block_bytes), self._column_types)
        if found is not None:
            name, value = found
            raise ConnectorError(
                f"{path!r}, field {name!r}: {value} is beyond int64 and would be rounded; say how "
                f"to read it, as in column_types={{{name.split('.')[0]!r}: pa.uint64()}}, "
                "pa.decimal128(38, 0) or pa.float64()"
            )

    def list_file(self, path: str, schema: pa.Schema, event_time: str | None) -> FileListing:
        """Return one split, its rows not counted, its times not known."""
        blank = is_blank(path, self._encoding)
        return FileListing(schema, [] if blank else [Split(path, {"path": path})])

    def read_batches(self, path: str, scan: Scan) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a file, block by block."""
        # All fields that were inferred, read or not: a further one is an error either way.
        schema = scan.full_schema if self._inferred else scan.read_schema
        shape = JsonShape(schema, "error" if self._inferred else "ignore")
        with closing(JsonFile(path, self._encoding)) as file:
            reader = self._opened(path, file, shape)
            while True:
                try:
                    batch = reader.read_next_batch()
                    batch = shape.cast(batch.select(scan.read_columns))
                except StopIteration:
                    return
                except (pa.ArrowException, OSError) as error:
                    raise self._located(path, shape, error) from error
                yield relabel(batch, scan.read_schema)

    def _first(self, path: str, shape: JsonShape) -> pa.RecordBatch:
        """Return the first block of a file."""
        with closing(JsonFile(path, self._encoding)) as file:
            reader = self._opened(path, file, shape)
            try:
                return reader.read_next_batch()
            except (pa.ArrowException, OSError) as error:
                raise self._located(path, shape, error) from error

    def _opened(self, path: str, file: JsonFile, shape: JsonShape) -> Any:
        from pyarrow import json as arrow_json

        read = arrow_json.ReadOptions(use_threads=False, block_size=self._block_bytes)
        try:
            return arrow_json.open_json(file, read_options=read, parse_options=shape.options())
        except (pa.ArrowException, OSError) as error:
            raise self._located(path, shape, error) from error

    def _located(self, path: str, shape: JsonShape, error: Exception) -> ConnectorError:
        """Return the error with the line, which Arrow counts from its block, or not at all."""
        found = first_bad_line(path, self._encoding, shape)
        if found is None:
            return ConnectorError(
                f"{path!r} is not readable as newline-delimited JSON ({error}); is a line longer "
                f"than block_bytes={self._block_bytes}, or does the file hold columns, one object "
                "for all rows? job.from_batches(pa.table(json.load(open(path)))) reads such a file"
            )
        line, what = found
        guessed = [name for name in sorted(self._without_values) if f"(/{name}" in what]
        taken = "; it had no value in the first block and was taken for text" if guessed else ""
        advice = "; column_types= says how to read a field, schema= which fields to read"
        return ConnectorError(f"{path!r}, line {line}: {what}{taken}{advice}")
