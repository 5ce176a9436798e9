"""Parses JSON lines with Arrow, and finds the first invalid line."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from hpcstream.connectors.formats.json.types import as_text
from hpcstream.connectors.formats.text_file import UTF8, TextFile
from hpcstream.connectors.scan import one_batch
from hpcstream.errors import ConnectorError

_LINES_TRIED_AT_ONCE = 4_096
_ROW_IN_BLOCK = re.compile(r" in row \d+$")
_NULL = b"null"
_BEGINNING = 64
_SHOWN = 20


class JsonFile(TextFile):
    """A text file in which no line is ``null``, and which is no array.

    Arrow ends the process with a segmentation fault at such a line.
    """

    def __init__(self, path: str, encoding: str = UTF8) -> None:
        super().__init__(path, "JSON", encoding, strict=True)
        self._has_object = False
        self._line = b""

    def read(self, size: int = -1) -> bytes:
        """Return at most ``size`` bytes, which may be fewer, none at the end.

        Raises
        ------
        ConnectorError
            They hold values other than objects, or are not text.
        """
        data = super().read(size)
        begun = (self._line + data[:_BEGINNING]).lstrip()
        if begun and (begun.startswith(_NULL) or not (self._has_object or _is_object(begun))):
            raise self._no_object()
        self._has_object = self._has_object or bool(begun)
        if _NULL in data and self._has_null_line(data):
            raise self._no_object()
        last = data[max(data.rfind(b"\n"), data.rfind(b"\r")) + 1 :]
        self._line = (last if last != data else self._line + last)[:_BEGINNING]
        return data

    def _has_null_line(self, data: bytes) -> bool:
        values = np.frombuffer(data, np.uint8)
        begins = np.flatnonzero((values[:-1] == ord("\n")) | (values[:-1] == ord("\r"))) + 1
        begins = begins[np.isin(values[begins], np.frombuffer(b"n \t", np.uint8))]
        return any(
            data[begin : begin + _BEGINNING].lstrip().startswith(_NULL) for begin in begins.tolist()
        )

    def _no_object(self) -> ConnectorError:
        where, begun = repr(self._path), b""
        with io.BufferedReader(TextFile(self._path, "JSON", self._encoding)) as file:
            for line, text in enumerate(file, 1):
                begun = text.strip()
                if begun.startswith(_NULL) or (begun and not _is_object(begun)):
                    where += f", line {line}"
                    break
        return ConnectorError(
            f"{where}: expected a JSON object in each line, got {begun[:_SHOWN]!r}; of an array "
            "`jq -c '.[]'` makes such lines, and "
            "job.from_batches(pa.Table.from_pylist(json.load(open(path)))) reads it"
        )


def _is_object(text: bytes) -> bool:
    return text.startswith((b"{", b"\xef\xbb\xbf"))


@dataclass(frozen=True)
class JsonShape:
    """The schema that JSON objects are parsed into.

    Attributes
    ----------
    schema : pa.Schema
        Fields and types.
    unexpected : {"error", "ignore", "infer"}
        What becomes of further fields.
    """

    schema: pa.Schema
    unexpected: str

    def options(self) -> Any:
        """Return Arrow's: times are parsed as text, see `cast`."""
        from pyarrow import json as arrow_json

        texts = pa.schema([field.with_type(as_text(field.type)) for field in self.schema])
        return arrow_json.ParseOptions(
            explicit_schema=texts, unexpected_field_behavior=self.unexpected
        )

    def cast(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return columns of a batch in their own types; text has its zone checked.

        Raises
        ------
        pa.ArrowInvalid
            A text is no such time; names the column.
        """
        columns = []
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            wanted = self.schema.field(name).type
            try:
                columns.append(column if column.type == wanted else column.cast(wanted))
            except pa.ArrowInvalid as error:
                raise pa.ArrowInvalid(f"field {name!r}: {error}") from error
        return pa.RecordBatch.from_arrays(columns, batch.schema.names) if columns else batch


def first_bad_line(path: str, encoding: str, shape: JsonShape) -> tuple[int, str] | None:
    """Return number and error of the first line that does not parse."""
    number = 0
    lines = iter(_lines(path, encoding))
    while block := list(islice(lines, _LINES_TRIED_AT_ONCE)):
        if _fault(block, shape) is not None:
            n_good = _longest_good_prefix(block, shape)
            fault = _fault(block[: n_good + 1], shape)
            assert fault is not None, "the prefix with the bad line does not parse"
            return number + n_good + 1, fault
        number += len(block)
    return None


def _longest_good_prefix(lines: Sequence[bytes], shape: JsonShape) -> int:
    """Return the length of the longest prefix of lines that parses."""
    good, bad = 0, len(lines)
    while bad - good > 1:
        middle = (good + bad) // 2
        if _fault(lines[:middle], shape) is None:
            good = middle
        else:
            bad = middle
    return good


def _fault(lines: Sequence[bytes], shape: JsonShape) -> str | None:
    text = b"\n".join(line for line in lines if line.strip())
    try:
        if text:
            parsed_lines(text, shape)
    except pa.ArrowException as error:
        return _ROW_IN_BLOCK.sub("", str(error))
    return None


def parsed_lines(text: bytes, shape: JsonShape) -> pa.RecordBatch:
    """Return the rows of JSON lines that lie in memory. Raises Arrow's errors.

    No line may be ``null``: see `JsonFile`.
    """
    from pyarrow import json as arrow_json

    whole = arrow_json.ReadOptions(use_threads=False, block_size=len(text) + 1)
    table = arrow_json.read_json(
        io.BytesIO(text), read_options=whole, parse_options=shape.options()
    )
    known = [name for name in shape.schema.names if name in table.schema.names]
    return shape.cast(one_batch(table.select(known)))


def _lines(path: str, encoding: str) -> Iterator[bytes]:
    with io.BufferedReader(JsonFile(path, encoding)) as file:
        yield from file


def is_blank(path: str, encoding: str) -> bool:
    """Whether a file has no line that is not blank; reads no further than the first one."""
    return not any(line.strip() for line in _lines(path, encoding))
