"""CSV files: a split is a file, read block by block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from hpcstream.connectors.base import Split
from hpcstream.connectors.files.file_format import FileListing, SequentialFormat
from hpcstream.connectors.files.listing import Paths, with_compressed
from hpcstream.connectors.files.source import FileSource
from hpcstream.connectors.formats.csv.blocks import CsvBlocks
from hpcstream.connectors.formats.csv.delimiters import other_delimiter
from hpcstream.connectors.formats.csv.options import CsvOptions
from hpcstream.connectors.formats.csv.rows import Beginning, not_text, read_beginning
from hpcstream.connectors.formats.csv.types import is_text, refined
from hpcstream.connectors.scan import Scan, plain_schema, relabel
from hpcstream.errors import ConnectorError


def csv_source(
    paths: Paths, *, event_time: str | None = None, unit: str | None = None, **options: Any
) -> FileSource:
    """Return a source of CSV files, compressed ones (``.csv.gz``) included.

    Parameters
    ----------
    paths : path, glob, directory or list of these
    event_time, unit : str, optional
        Event-time column, and its unit if it is int64.
    **options
        The attributes of `CsvOptions`: ``schema``, ``column_types``, ``delimiter``, ...
    """
    csv_format = CsvFormat(CsvOptions(**options))
    given = csv_format.options.schema
    return FileSource(paths, csv_format, event_time=event_time, unit=unit, schema=given)


class CsvFormat(SequentialFormat):
    """`FileFormat` of CSV; ``options`` as in `csv_source`."""

    name = "csv"
    extensions = with_compressed(".csv")

    def __init__(self, options: CsvOptions) -> None:
        self.options = options

    def read_schema(self, path: str) -> pa.Schema:
        """Return the schema of a file; types are inferred from its first block."""
        beginning = read_beginning(path, self.options)
        if beginning is None:
            raise ConnectorError(f"{path!r} is empty; a CSV file begins with a header line")
        given = self.options.column_types
        unknown = [name for name in given if name not in beginning.names]
        if unknown:
            raise ConnectorError(
                f"{path!r} has no column {unknown[0]!r}, named in column_types; it has "
                f"[{', '.join(beginning.names)}]"
            )
        if not beginning.first_row and not all(name in given for name in beginning.names):
            raise ConnectorError(f"{path!r} has no rows to infer types from; give schema=")
        self._check_delimiter(path, beginning)
        if not beginning.first_row:
            return plain_schema(pa.schema([(n, given[n]) for n in beginning.names]), path)
        return plain_schema(self._inferred(path, beginning), path)

    def _check_delimiter(self, path: str, beginning: Beginning) -> None:
        options = self.options
        other = other_delimiter(beginning.header, beginning.first_row, options)
        if other is None or options.column_names:
            return
        if other == "  ":
            raise ConnectorError(
                f"{path!r}: runs of spaces separate its fields, but a delimiter is one "
                "character; convert them to commas, as with `sed -E 's/^ +//; s/ +/,/g'`, or name "
                "the columns with column_names=[...]"
            )
        shown = f"{beginning.names[0]!r}" if beginning.header else "without a name"
        raise ConnectorError(
            f"{path!r} has one column, {shown}: is its delimiter {other!r}, not "
            f"{options.delimiter!r}? Say delimiter={other!r}, or name the one column with "
            "column_names=[...]"
        )

    def _inferred(self, path: str, beginning: Beginning) -> pa.Schema:
        given = self.options.column_types
        _, rule = self.options.null_rules
        raw = dict.fromkeys(given, pa.binary())  # their values are checked when they are read
        found = CsvBlocks(path, self.options, beginning, raw).first(beginning.names, rule).schema
        for i, field in enumerate(found):
            if pa.types.is_binary(field.type) and field.name not in given:
                raise not_text(path, self.options, i)
        unsure = [f.name for f in found if f.name not in given and not is_text(f.type)]
        texts = dict.fromkeys(unsure, pa.string())
        block = CsvBlocks(path, self.options, beginning, texts).first(unsure, rule)
        return refined(found, block, given)

    def list_file(self, path: str, schema: pa.Schema, event_time: str | None) -> FileListing:
        """Return one split, its rows not counted, its times not known."""
        beginning = read_beginning(path, self.options)
        if beginning is None:
            return FileListing(schema, [])
        types = {f.name: f.type for f in schema}
        found = pa.schema([(name, types.get(name, pa.null())) for name in beginning.names])
        return FileListing(plain_schema(found, path), [Split(path, {"path": path})])

    def read_batches(self, path: str, scan: Scan) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a file, block by block."""
        beginning = read_beginning(path, self.options)
        if beginning is None or not beginning.first_row:
            return
        types = {f.name: f.type for f in scan.full_schema}
        wanted = scan.read_columns or scan.full_schema.names[:1]
        for batch in CsvBlocks(path, self.options, beginning, types).batches(wanted):
            yield relabel(batch.select(scan.read_columns), scan.read_schema)
