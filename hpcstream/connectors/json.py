"""Newline-delimited JSON files: one object a line; a split is a file."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

import pyarrow as pa

from hpcstream.connectors.base import Split, SplitReader
from hpcstream.connectors.file_source import FileListing, FileSource
from hpcstream.connectors.files import Paths
from hpcstream.connectors.scan import Scan, plain_schema, relabel
from hpcstream.connectors.slicing import BatchReader
from hpcstream.errors import ConnectorError

_LINES_TRIED_AT_ONCE = 4_096
_ROW_IN_BLOCK = re.compile(r" in row \d+$")


def JsonSource(
    paths: Paths,
    *,
    schema: pa.Schema | None = None,
    block_bytes: int = 1 << 20,
    event_time: str | None = None,
    unit: str | None = None,
) -> FileSource:
    """Return a source of newline-delimited JSON files, compressed ones included.

    Parameters
    ----------
    paths : path, glob, directory or list of these
    schema : pa.Schema, optional
        The fields to read; others in the files are ignored. If not given, the fields
        are those of the first block of the first file, and a later one is an error.
        A field that a line lacks is null.
    block_bytes : int
        Bytes read at a time; a line must be shorter.
    event_time, unit : str, optional
        Event-time column, and its unit if it is int64.
    """
    given = None if schema is None else plain_schema(schema, "read_json(schema=)")
    file_format = JsonFormat(given is None, block_bytes)
    return FileSource(paths, file_format, event_time=event_time, unit=unit, schema=given)


@dataclass(frozen=True)
class JsonFormat:
    """`FileFormat` of newline-delimited JSON.

    Attributes
    ----------
    inferred : bool
        Whether the schema was inferred, so that further fields are an error.
    block_bytes : int
        Read at a time.
    """

    inferred: bool
    block_bytes: int
    name: str = "json"
    extensions: tuple[str, ...] = (".json", ".jsonl", ".ndjson", ".json.gz", ".jsonl.gz")

    def read_schema(self, path: str) -> pa.Schema:
        """Return the schema inferred from the first block of a file."""
        if _is_blank(path):
            raise ConnectorError(f"{path!r} has no rows to infer fields from; give schema=")
        schema = plain_schema(self._opened(path, None).schema, path)
        # No value in the first block: text is the likeliest, and a wrong guess is said.
        return pa.schema(
            [f.with_type(pa.string()) if pa.types.is_null(f.type) else f for f in schema]
        )

    def list_file(self, path: str, schema: pa.Schema, event_time: str | None) -> FileListing:
        """Return one split, its rows not counted, its times not known."""
        return FileListing(schema, [] if _is_blank(path) else [Split(path, {"path": path})])

    def open(self, split: Split, scan: Scan, position: int) -> SplitReader:
        """Return a reader; to start at a position the rows before it are read and dropped."""
        path = cast("str", split.info["path"])

        def batches(max_rows: int) -> Iterator[pa.RecordBatch]:
            return self._read(path, scan)

        return BatchReader(batches, scan, position)

    def _read(self, path: str, scan: Scan) -> Iterator[pa.RecordBatch]:
        whole = len(scan.read_columns) == len(scan.full_schema)
        options = self._parse_options(scan.read_schema, strict=self.inferred and whole)
        reader = self._opened(path, options)
        while True:
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                return
            except (pa.ArrowException, OSError) as error:
                raise self._located(path, options, error) from error
            yield relabel(batch.select(scan.read_columns), scan.read_schema)

    def _parse_options(self, schema: pa.Schema, *, strict: bool) -> Any:
        from pyarrow import json as arrow_json

        unexpected = "error" if strict else "ignore"
        return arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior=unexpected)

    def _opened(self, path: str, options: Any) -> Any:
        from pyarrow import json as arrow_json

        read = arrow_json.ReadOptions(use_threads=False, block_size=self.block_bytes)
        try:
            return arrow_json.open_json(path, read_options=read, parse_options=options)
        except (pa.ArrowException, OSError) as error:
            raise self._located(path, options, error) from error

    def _located(self, path: str, options: Any, error: Exception) -> ConnectorError:
        """Find the line: Arrow counts rows from the start of its block, or not at all."""
        found = _first_bad_line(path, options)
        if found is None:
            return ConnectorError(
                f"{path!r} is not readable as newline-delimited JSON ({error}); "
                f"is a line longer than block_bytes={self.block_bytes}?"
            )
        line, what = found
        advice = "; schema= says which fields to read, and their types"
        return ConnectorError(f"{path!r}, line {line}: {what}{advice}")


def _first_bad_line(path: str, options: Any) -> tuple[int, str] | None:
    """Return number and fault of the line with which the file stops to parse."""
    number = 0
    lines = iter(_lines(path))
    while block := list(islice(lines, _LINES_TRIED_AT_ONCE)):
        if _fault(block, options) is not None:
            n_good = _longest_good_prefix(block, options)
            fault = _fault(block[: n_good + 1], options)
            assert fault is not None, "the prefix with the bad line does not parse"
            return number + n_good + 1, fault
        number += len(block)
    return None


def _longest_good_prefix(lines: Sequence[bytes], options: Any) -> int:
    """Return how many of the lines, which together do not parse, do so from the first on."""
    good, bad = 0, len(lines)
    while bad - good > 1:
        middle = (good + bad) // 2
        if _fault(lines[:middle], options) is None:
            good = middle
        else:
            bad = middle
    return good


def _fault(lines: Sequence[bytes], options: Any) -> str | None:
    from pyarrow import json as arrow_json

    text = b"\n".join(line for line in lines if line.strip())
    if not text:
        return None
    whole = arrow_json.ReadOptions(use_threads=False, block_size=len(text) + 1)
    try:
        arrow_json.read_json(io.BytesIO(text), read_options=whole, parse_options=options)
    except pa.ArrowException as error:
        return _ROW_IN_BLOCK.sub("", str(error))
    return None


def _lines(path: str) -> Iterator[bytes]:
    try:
        with pa.input_stream(path, compression="detect") as stream:
            yield from io.BufferedReader(stream)
    except (OSError, pa.ArrowException) as error:
        raise ConnectorError(f"{path!r} is not a readable JSON file ({error})") from error


def _is_blank(path: str) -> bool:
    """Whether a file has no line that is not blank; reads no further than the first one."""
    return not any(line.strip() for line in _lines(path))
