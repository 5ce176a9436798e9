"""The blocks of a CSV file, read by Arrow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.connectors.formats.csv.options import CsvOptions, NullRule
from hpcstream.connectors.formats.csv.rows import (
    Beginning,
    line_break_in_value,
    located,
    unclosed_quote,
)
from hpcstream.connectors.formats.csv.types import as_type, is_text, read_as
from hpcstream.connectors.formats.text_file import TextFile

Pass = tuple[Sequence[str], NullRule]
"""Columns that are read together, and what is null in them."""


class CsvBlocks:
    """The blocks of a file; the types of columns that ``types`` lacks are inferred."""

    def __init__(
        self,
        path: str,
        options: CsvOptions,
        beginning: Beginning,
        types: Mapping[str, pa.DataType],
    ) -> None:
        self._path = path
        self._options = options
        self._beginning = beginning
        self._types = types

    def batches(self, wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield these columns of all rows.

        One pass over the file reads all columns, with the rule of nulls for text. If a
        field of another type does not fit, two parallel passes read text and other types,
        each with its own rule, since Arrow has one rule for all columns.

        Raises
        ------
        ConnectorError
            What is wrong, with line and column.
        """
        once, twice = passes(self._options, self._types, wanted)
        n_done = 0
        try:
            for batch in self._side_by_side(once):
                yield batch.select(wanted)
                n_done += batch.num_rows
            return
        except (pa.ArrowException, OSError) as error:
            if not twice:
                raise located(self._path, self._options, error) from error
        try:
            for batch in self._side_by_side(twice):
                fresh = batch.slice(min(n_done, batch.num_rows))
                n_done -= batch.num_rows - fresh.num_rows
                yield fresh.select(wanted)
        except (pa.ArrowException, OSError) as error:
            raise located(self._path, self._options, error) from error

    def first(self, columns: Sequence[str], rule: NullRule) -> pa.RecordBatch:
        """Return these columns of the first block."""
        try:
            with closing(self._file()) as file, self._reader(file, (columns, rule)) as reader:
                return next(reader, None) or pa.RecordBatch.from_pylist([], reader.schema)
        except (pa.ArrowException, OSError) as error:
            raise located(self._path, self._options, error) from error

    def _side_by_side(self, passes: Sequence[Pass]) -> Iterator[pa.RecordBatch]:
        with ExitStack() as opened:
            files = [opened.enter_context(closing(self._file())) for _ in passes]
            readers = [
                opened.enter_context(self._reader(file, one))
                for file, one in zip(files, passes, strict=True)
            ]
            for parts in zip(*readers, strict=True):  # the blocks of all end at the same rows
                for part in parts:
                    self._check_line_breaks(files[0], part)
                yield joined(parts, self._types)
            if files[0].n_quotes % 2:
                fault = unclosed_quote(self._path, self._options)
                if fault is not None:
                    raise fault

    def _file(self) -> TextFile:
        return TextFile(self._path, "CSV", self._options.encoding)

    def _reader(self, file: TextFile, one: Pass) -> Any:
        return open_reader(file, self._options, self._beginning, self._types, one)

    def _check_line_breaks(self, file: TextFile, batch: pa.RecordBatch) -> None:
        if self._options.newlines_in_values or not (file.n_quotes and file.is_longer):
            return
        for column in batch.columns:
            values = column.dictionary if pa.types.is_dictionary(column.type) else column
            if is_text(values.type) and _holds_line_break(values):
                raise line_break_in_value(self._path, self._options)


def passes(
    options: CsvOptions, types: Mapping[str, pa.DataType], wanted: Sequence[str]
) -> tuple[list[Pass], list[Pass]]:
    """Return the passes to try first, and those to try if they fail, if there are any."""
    of_text, of_others = options.null_rules
    texts = [name for name in wanted if is_text(read_as(types[name]))]
    others = [name for name in wanted if name not in texts]
    if of_text == of_others or not others:
        return [(wanted, of_text)], []
    if not texts:
        return [(wanted, of_others)], []
    return [(wanted, of_text)], [(texts, of_text), (others, of_others)]


def open_reader(
    file: Any,
    options: CsvOptions,
    beginning: Beginning,
    types: Mapping[str, pa.DataType],
    one: Pass,
) -> Any:
    """Return Arrow's reader of some columns of a file, or of text that lies in memory."""
    from pyarrow import csv

    columns, rule = one
    return csv.open_csv(
        file,
        read_options=csv.ReadOptions(
            use_threads=False,
            block_size=options.block_bytes,
            column_names=beginning.names,
            skip_rows=beginning.n_lines,
        ),
        parse_options=csv.ParseOptions(
            delimiter=options.delimiter,
            # Else a value whose line break falls on the end of a block is misread. The
            # option of this name is a check of ours.
            newlines_in_values=True,
            ignore_empty_lines=not beginning.keeps_blank_lines,
        ),
        convert_options=csv.ConvertOptions(
            column_types={name: read_as(types[name]) for name in types},
            include_columns=columns,
            null_values=rule.spellings,
            strings_can_be_null=rule.in_text,
            quoted_strings_can_be_null=rule.quoted,
        ),
    )


def joined(parts: Sequence[pa.RecordBatch], types: Mapping[str, pa.DataType]) -> pa.RecordBatch:
    """Return the columns of several batches as one, each of its type."""
    names = [name for part in parts for name in part.schema.names]
    columns = [column for part in parts for column in part.columns]
    for i, name in enumerate(names):
        if columns[i].type != types.get(name, columns[i].type):
            columns[i] = as_type(columns[i], types[name])
    return pa.RecordBatch.from_arrays(columns, names)


def _holds_line_break(values: pa.Array) -> bool:
    if pa.types.is_fixed_size_binary(values.type):
        values = values.cast(pa.binary())
    return any(pc.any(pc.match_substring(values, end)).as_py() for end in ("\n", "\r"))
