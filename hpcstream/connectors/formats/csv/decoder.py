"""Messages of comma-separated values, a row each, decoded as lines of CSV files are."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from hpcstream.connectors.formats.csv.blocks import Pass, joined, open_reader, passes
from hpcstream.connectors.formats.csv.options import CsvOptions
from hpcstream.connectors.formats.csv.rows import Beginning
from hpcstream.connectors.formats.decoding import DecodingFailed, LineDecoder
from hpcstream.connectors.scan import one_batch, relabel


class CsvDecoder(LineDecoder):
    """Decodes rows of CSV without a header.

    Parameters
    ----------
    schema : pa.Schema
        Columns in the order in which they stand in a message.
    delimiter : str
        One character between fields.
    null_values : sequence of str, optional
        Spellings of null, as in ``read_csv``.
    """

    def __init__(
        self,
        schema: pa.Schema,
        *,
        delimiter: str = ",",
        null_values: Sequence[str] | None = None,
    ) -> None:
        super().__init__(schema)
        self._options = CsvOptions(
            schema=self.schema, delimiter=delimiter, header=False, null_values=null_values
        )
        self._types = {field.name: field.type for field in self.schema}
        names = self.schema.names
        self._beginning = Beginning(names, [], [], 0)
        other = f'[^"\\r\\n{re.escape(delimiter)}]'
        field = f'(?:"(?:[^"\\r\\n]|"")*"|{other}*)'
        self._plain = re.compile(f"{field}(?:{re.escape(delimiter)}{field})*".encode())
        self._passes = passes(self._options, self._types, names)

    def _is_plain(self, line: bytes) -> bool:
        return bool(line.strip()) and self._plain.fullmatch(line) is not None

    def _check_alone(self, line: bytes) -> None:
        if not line.strip() and len(self._types) > 1:
            raise DecodingFailed("the message is empty")
        text = io.StringIO(line.decode(), newline="")
        try:
            next(csv.reader(text, delimiter=self._options.delimiter, strict=True), None)
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                raise DecodingFailed("a quoted value is not closed") from None

    def _parsed(self, lines: Sequence[bytes]) -> pa.RecordBatch:
        text = b"\n".join(lines) + b"\n"
        text.decode()
        once, twice = self._passes
        try:
            batch = self._read(text, once)
        except pa.ArrowException:
            if not twice:
                raise
            batch = self._read(text, twice)
        return relabel(batch.select(self.schema.names), self.schema)

    def _read(self, text: bytes, chosen: Sequence[Pass]) -> pa.RecordBatch:
        parts = []
        options = replace(self._options, block_bytes=len(text) + 1)
        for one_pass in chosen:
            file = io.BytesIO(text)
            with open_reader(file, options, self._beginning, self._types, one_pass) as reader:
                parts.append(one_batch(reader.read_all()))
        return joined(parts, self._types)
