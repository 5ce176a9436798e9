"""CSV files: a split is a file, read block by block."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, ClassVar, cast

import pyarrow as pa

from hpcstream.connectors.base import Split, SplitReader
from hpcstream.connectors.file_source import FileListing, FileSource
from hpcstream.connectors.files import Paths
from hpcstream.connectors.scan import Scan, plain_schema, relabel
from hpcstream.connectors.slicing import BatchReader
from hpcstream.errors import ConnectorError

_COLUMN_ERROR = re.compile(r"In CSV column #(\d+): (?:Row #(\d+): )?(.*)", re.DOTALL)
_ROW_ERROR = re.compile(r"CSV parse error: Row #(\d+): (.*)", re.DOTALL)


def CsvSource(
    paths: Paths, *, event_time: str | None = None, unit: str | None = None, **options: Any
) -> FileSource:
    """Return a source of CSV files, compressed ones (``.csv.gz``) included.

    Parameters
    ----------
    paths : path, glob, directory or list of these
    event_time, unit : str, optional
        Event-time column, and its unit if it is int64.
    **options
        The attributes of `CsvFormat`: ``schema``, ``column_types``, ``delimiter``, ...
    """
    csv_format = CsvFormat(**options)
    given = csv_format.schema
    return FileSource(paths, csv_format, event_time=event_time, unit=unit, schema=given)


@dataclass(frozen=True, kw_only=True)
class CsvFormat:
    """`FileFormat` of CSV.

    Attributes
    ----------
    schema : pa.Schema, optional
        All columns and their types. If not given, names come from the header and types
        from the first block of the first file: say what it cannot know.
    column_types : Mapping[str, pa.DataType]
        Types of some columns, the others being inferred.
    delimiter : str
    header : bool
        Whether the first line of each file names the columns.
    column_names : sequence of str
        Names of the columns if there is no header (default: those of ``schema``, else
        f0, f1, ...).
    null_values : sequence of str, optional
        Spellings of null, in every column, as ``[""]``: empty fields. By default those
        usual for numbers and times; then a string is never null, but empty.
    newlines_in_values : bool
        Whether a quoted value may hold a line break.
    block_bytes : int
        Bytes read at a time; a row must be shorter.
    """

    schema: pa.Schema | None = None
    column_types: Mapping[str, pa.DataType] = field(default_factory=dict)
    delimiter: str = ","
    header: bool = True
    column_names: Sequence[str] = ()
    null_values: Sequence[str] | None = None
    newlines_in_values: bool = False
    block_bytes: int = 1 << 20

    name: ClassVar[str] = "csv"
    extensions: ClassVar[tuple[str, ...]] = (".csv", ".csv.gz")

    def __post_init__(self) -> None:
        if self.schema is not None:
            object.__setattr__(self, "schema", plain_schema(self.schema, "read_csv(schema=)"))
            if not self.header and not self.column_names:
                object.__setattr__(self, "column_names", self.schema.names)
        if self.header and self.column_names:
            raise ValueError(
                "read_csv: column_names are for files without header; say header=False"
            )

    def read_schema(self, path: str) -> pa.Schema:
        """Return the schema of a file; types are inferred from its first block."""
        names = self._names(path)
        unknown = [name for name in self.column_types if names and name not in names]
        if unknown:
            raise ConnectorError(f"{path!r} has no column {unknown[0]!r}, named in column_types")
        with self._opened(path, {}, []) as reader:
            found = plain_schema(reader.schema, path)
        schema = pa.schema([f.with_type(self.column_types.get(f.name, f.type)) for f in found])
        if all(pa.types.is_null(f.type) for f in schema):
            raise ConnectorError(f"{path!r} has no rows to infer types from; give schema=")
        # No value in the first block: text is the one type that every later value fits.
        return pa.schema(
            [f.with_type(pa.string()) if pa.types.is_null(f.type) else f for f in schema]
        )

    def list_file(self, path: str, schema: pa.Schema, event_time: str | None) -> FileListing:
        """Return one split, its rows not counted, its times not known."""
        names = self._names(path)
        if names is None:
            return FileListing(schema, [])
        types = {f.name: f.type for f in schema}
        found = pa.schema([pa.field(name, types.get(name, pa.null())) for name in names])
        return FileListing(plain_schema(found, path), [Split(path, {"path": path})])

    def open(self, split: Split, scan: Scan, position: int) -> SplitReader:
        """Return a reader; to start at a position the rows before it are read and dropped."""
        path = cast("str", split.info["path"])

        def batches(max_rows: int) -> Iterator[pa.RecordBatch]:
            return self._read(path, scan)

        return BatchReader(batches, scan, position)

    def _read(self, path: str, scan: Scan) -> Iterator[pa.RecordBatch]:
        wanted = scan.read_columns or scan.full_schema.names[:1]
        types = {f.name: f.type for f in scan.full_schema}
        with self._opened(path, types, wanted) as reader:
            while True:
                try:
                    batch = reader.read_next_batch()
                except StopIteration:
                    return
                except (pa.ArrowException, OSError) as error:
                    raise self._located(path, error) from error
                yield relabel(batch.select(scan.read_columns), scan.read_schema)

    def _opened(self, path: str, types: Mapping[str, pa.DataType], wanted: Sequence[str]) -> Any:
        from pyarrow import csv as arrow_csv

        if self._names(path) is None:
            raise ConnectorError(f"{path!r} is empty; a CSV file begins with a header line")
        try:
            return arrow_csv.open_csv(
                path,
                read_options=arrow_csv.ReadOptions(
                    use_threads=False,
                    block_size=self.block_bytes,
                    column_names=list(self.column_names) or None,
                    autogenerate_column_names=not self.header and not self.column_names,
                ),
                parse_options=arrow_csv.ParseOptions(
                    delimiter=self.delimiter, newlines_in_values=self.newlines_in_values
                ),
                convert_options=arrow_csv.ConvertOptions(
                    column_types=types,
                    include_columns=wanted,
                    null_values=None if self.null_values is None else list(self.null_values),
                    strings_can_be_null=self.null_values is not None,
                ),
            )
        except (pa.ArrowException, OSError) as error:
            raise self._located(path, error) from error

    def _names(self, path: str) -> list[str] | None:
        """Return the names of a file's columns; None if it has neither header nor row."""
        first = next(self._rows(path), None)
        if first is None:
            return None
        if self.header:
            return first
        return list(self.column_names) or [f"f{i}" for i in range(len(first))]

    def _rows(self, path: str) -> Iterator[list[str]]:
        """Yield rows as text, blank lines left out as Arrow does."""
        return (row for _, row in self._numbered_rows(path))

    def _numbered_rows(self, path: str) -> Iterator[tuple[int, list[str]]]:
        """Yield (line on which the row ends, row)."""
        try:
            with pa.input_stream(path, compression="detect") as stream:
                text = io.TextIOWrapper(stream, "utf-8-sig", errors="replace", newline="")
                reader = csv.reader(text, delimiter=self.delimiter)
                for row in reader:
                    if row:
                        yield reader.line_num, row
        except (OSError, pa.ArrowException, csv.Error) as error:
            raise ConnectorError(f"{path!r} is not a readable CSV file ({error})") from error

    def _located(self, path: str, error: Exception) -> ConnectorError:
        """Say line and column as a person would look for them."""
        in_column = _COLUMN_ERROR.match(str(error))
        if in_column:
            column, row, what = in_column.groups()
            names = self._names(path) or []
            name = names[int(column)] if int(column) < len(names) else f"#{column}"
            advice = "; if that is how it should be, give its type in column_types= or schema="
            return ConnectorError(
                f"{path!r}{self._line(path, row)}, column {name!r}: {what}{advice}"
            )
        in_row = _ROW_ERROR.match(str(error))
        if in_row:
            return ConnectorError(f"{path!r}{self._line(path, in_row[1])}: {in_row[2]}")
        if "straddl" in str(error):
            return ConnectorError(
                f"{path!r}: a row is longer than block_bytes={self.block_bytes}, or has a line "
                f"break in a value (newlines_in_values=True reads it) ({error})"
            )
        return ConnectorError(f"{path!r} is not a readable CSV file ({error})")

    def _line(self, path: str, row: str | None) -> str:
        """Return where Arrow's row number (header included, blank lines not) is in the file."""
        if row is None:
            return ""
        found = next(islice(self._numbered_rows(path), int(row) - 1, None), None)
        return f", line {found[0]}" if found else f", row {row}"
