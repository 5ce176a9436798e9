"""Reads CSV with Python: the header, and the position of an error that Arrow found.

Slow, so only for the first rows of a file and after errors.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple

from hpcstream.connectors.formats.csv.options import CsvOptions
from hpcstream.connectors.formats.text_file import TextFile, not_utf8
from hpcstream.errors import ConnectorError

_COLUMN_ERROR = re.compile(r"In CSV column #(\d+): (?:Row #(\d+): )?(.*)", re.DOTALL)
_ROW_ERROR = re.compile(r"CSV parse error: Row #(\d+): (.*)", re.DOTALL)
_SHOWN = 60


class Beginning(NamedTuple):
    """The beginning of a file.

    Attributes
    ----------
    names : list of str
        Of its columns.
    header : list of str
        As it is in the file; empty if there is none.
    first_row : list of str
        Empty if there is no row.
    n_lines : int
        Lines before the first row.
    """

    names: list[str]
    header: list[str]
    first_row: list[str]
    n_lines: int

    @property
    def keeps_blank_lines(self) -> bool:
        """Whether a blank line is a row: the null of a file of one column."""
        return len(self.names) == 1


class _Row(NamedTuple):
    line: int
    """On which it begins."""
    last_line: int
    values: list[str]


def read_beginning(path: str, options: CsvOptions) -> Beginning | None:
    """Return the beginning of a file; None if it has neither header nor row."""
    is_one_column = not options.header and len(options.column_names) == 1
    with _rows(path, options) as rows:
        first = next((row for row in rows if row.values or is_one_column), None)
        if first is None:
            return None
        fields = first.values or [""]
        if options.header:
            header, n_lines = fields, first.last_line
            first = next((row for row in rows if row.values or len(fields) == 1), None)
        else:
            header, n_lines = [], 0 if len(fields) == 1 else first.line - 1
    first_row = [] if first is None else first.values or [""]
    names = _names(path, options, fields, is_header=options.header)
    return Beginning(names, header, first_row, n_lines)


def _names(path: str, options: CsvOptions, fields: list[str], *, is_header: bool) -> list[str]:
    given = list(options.column_names)
    if given:
        if len(given) != len(fields):
            raise ConnectorError(
                f"{path!r} has {len(fields)} columns, but {len(given)} names are given for them: "
                f"[{', '.join(given)}]"
            )
        return given
    names = [(name if is_header else "") or f"f{i}" for i, name in enumerate(fields)]
    for name in names:
        if any("\udc80" <= char <= "\udcff" for char in name):
            raise not_utf8(f"{path!r}, in the header", name.encode("utf-8", "surrogateescape"))
        if names.count(name) > 1:
            raise ConnectorError(
                f"{path!r}: {names.count(name)} columns are named {name!r}; rename them with "
                "column_names=[...]"
            )
    return names


@contextmanager
def _rows(path: str, options: CsvOptions, *, strict: bool = False) -> Iterator[Iterator[_Row]]:
    """Give the rows of a file as text, header and blank lines (as rows of no value) included."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        with io.BufferedReader(TextFile(path, "CSV", options.encoding)) as file:
            text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
            yield _numbered(csv.reader(text, delimiter=options.delimiter, strict=strict))
    except csv.Error as error:
        raise ConnectorError(f"{path!r} is not a readable CSV file ({error})") from error
    finally:
        csv.field_size_limit(limit)


def _numbered(reader: Iterator[list[str]]) -> Iterator[_Row]:
    line = 0
    for values in reader:
        last_line: int = reader.line_num  # type: ignore[attr-defined]  # of csv.reader
        yield _Row(line + 1, last_line, values)
        line = last_line


def _data_rows(rows: Iterator[_Row], beginning: Beginning) -> Iterator[_Row]:
    """Yield the rows that Arrow counts."""
    for row in rows:
        if row.last_line > beginning.n_lines and (row.values or beginning.keeps_blank_lines):
            yield row


def located(path: str, options: CsvOptions, error: Exception) -> ConnectorError:
    """Return an error with the line and the column as an editor counts them."""
    beginning = read_beginning(path, options)
    if beginning is None:
        return ConnectorError(f"{path!r} became empty while it was read")
    text = str(error)
    if in_column := _COLUMN_ERROR.match(text):
        column, number, what = in_column.groups()
        name = beginning.names[int(column)] if int(column) < len(beginning.names) else f"#{column}"
        row = None if number is None else _row(path, options, beginning, int(number))
        where = f"{path!r}{_line(row, number)}, column {name!r}"
        if "invalid UTF8" in what:
            return not_utf8(where, _bytes_at(row, int(column)))
        advice = "; if that is how it should be, give its type in column_types= or schema="
        return ConnectorError(f"{where}: {what}{advice}")
    if in_row := _ROW_ERROR.match(text):
        number, what = in_row.groups()
        row = _row(path, options, beginning, int(number))
        return ConnectorError(f"{path!r}{_line(row, number)}: {what}{_of_comment(beginning)}")
    if "straddl" in text or "out of sync" in text or "header is larger than block size" in text:
        return ConnectorError(
            f"{path!r}: a row is longer than block_bytes={options.block_bytes}; is a quote missing "
            f"({text})"
        )
    return ConnectorError(f"{path!r} is not a readable CSV file ({text})")


def _of_comment(beginning: Beginning) -> str:
    """Return a note if the header looks like a comment."""
    if not beginning.header or not beginning.header[0].startswith("#"):
        return ""
    head = beginning.header[0][:_SHOWN]
    return f"; the line taken as header begins with {head!r}: comments are to be taken out first"


def _row(path: str, options: CsvOptions, beginning: Beginning, number: int) -> _Row | None:
    """Return the row that Arrow calls ``number``: lines before the first row count as rows."""
    with _rows(path, options) as rows:
        index = number - beginning.n_lines - 1
        return next(islice(_data_rows(rows, beginning), max(index, 0), None), None)


def _line(row: _Row | None, number: str | None) -> str:
    if row is not None:
        return f", line {row.last_line}"
    return "" if number is None else f", row {number}"


def _bytes_at(row: _Row | None, column: int) -> bytes:
    value = row.values[column] if row is not None and column < len(row.values) else ""
    return value.encode("utf-8", "surrogateescape")[:_SHOWN]


def not_text(path: str, options: CsvOptions, column: int) -> ConnectorError:
    """Return the error of a column that has bytes which are not UTF-8."""
    beginning = read_beginning(path, options)
    assert beginning is not None, "a file with columns has a beginning"
    where = f"{path!r}, column {beginning.names[column]!r}"
    with _rows(path, options) as rows:
        for row in _data_rows(rows, beginning):
            value = row.values[column] if column < len(row.values) else ""
            if any("\udc80" <= char <= "\udcff" for char in value):
                where = f"{path!r}, line {row.last_line}, column {beginning.names[column]!r}"
                return not_utf8(where, _bytes_at(row, column))
    return not_utf8(where, b"")


def line_break_in_value(path: str, options: CsvOptions) -> ConnectorError:
    """Return the error of the first value that holds a line break."""
    beginning = read_beginning(path, options)
    assert beginning is not None, "a file with rows has a beginning"
    with _rows(path, options) as rows:
        for row in _data_rows(rows, beginning):
            for name, value in zip(beginning.names, row.values, strict=False):
                if "\n" in value or "\r" in value:
                    where = f"{path!r}, line {row.line}, column {name!r}"
                    return ConnectorError(
                        f"{where}: a quoted value holds a line break; newlines_in_values=True "
                        "reads such values; otherwise a quote is missing there"
                    )
    return ConnectorError(
        f"{path!r}: a quoted value holds a line break; newlines_in_values=True reads such values"
    )


def unclosed_quote(path: str, options: CsvOptions) -> ConnectorError | None:
    """Return the error of a file that ends within a quoted value; None if it does not."""
    last_line = 0
    try:
        with _rows(path, options, strict=True) as rows:
            for row in rows:
                last_line = row.last_line
    except ConnectorError as failure:
        if "unexpected end of data" in str(failure.__cause__):
            return ConnectorError(
                f"{path!r}, line {last_line + 1}: the file ends within a quoted value that begins "
                "in this row; is it cut off, or is a quote missing?"
            )
    return None
