"""Small sources and sinks of users, made whole.

A source needs ``schema``, ``list_splits`` and ``open``; what it leaves out is: bounded,
described by its class name, projected after reading, filtered by the engine. A sink
needs ``write(batch)``, or is just a function of a batch; what it leaves out does
nothing. Such a sink has no way to take rows back, so it sees rows at most once per
attempt, and those of a failed attempt too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.connectors.base import Chunk, Part, Sink, Source, Split, SplitReader
from hpcstream.connectors.scan import Scan, plain_schema, relabel

_SOURCE = ("schema", "list_splits", "open")
_SINK = ("begin", "write", "prepare", "commit", "abort")


def as_source(source: Any) -> Source:
    """Return ``source`` as a whole `Source`.

    Raises
    ------
    TypeError
        It lacks ``schema``, ``list_splits`` or ``open``.
    """
    missing = [name for name in _SOURCE if not hasattr(source, name)]
    if missing:
        raise TypeError(
            f"source {type(source).__name__} has no {', '.join(missing)}; "
            f"a source needs at least {', '.join(_SOURCE)}"
        )
    whole: Source = source
    if all(hasattr(source, name) for name in ("bounded", "describe", "project", "filter")):
        return whole
    return CompletedSource(source)


def as_sink(sink: Any) -> Sink:
    """Return ``sink`` (an object with ``write``, or a function of a batch) as a whole `Sink`.

    Raises
    ------
    TypeError
        It is neither.
    """
    if not hasattr(sink, "write"):
        if callable(sink):
            return CompletedSink(_Function(sink))
        raise TypeError(
            f"sink {type(sink).__name__} has no write(batch) and cannot be called with a batch"
        )
    whole: Sink = sink
    return whole if all(hasattr(sink, name) for name in _SINK) else CompletedSink(sink)


class CompletedSource:
    """A user's source with the defaults of `as_source`."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._scan = Scan.of(plain_schema(source.schema, type(source).__name__))
        self.bounded: bool = getattr(source, "bounded", True)
        self.per_rank: bool = getattr(source, "per_rank", False)

    @property
    def schema(self) -> pa.Schema:
        """Of the batches delivered."""
        return self._scan.schema

    def describe(self) -> str:
        """Return the source's own description, else the name of its class."""
        own = getattr(self._source, "describe", None)
        name = own() if own else type(self._source).__name__
        return ", ".join(filter(None, [name, self._scan.describe()]))

    def list_splits(self) -> list[Split]:
        """Return the source's splits."""
        return list(self._source.list_splits())

    def files(self) -> list[str]:
        """Return the files that the source says it reads."""
        own = getattr(self._source, "files", None)
        return list(own()) if own else []

    def open(self, split: Split, position: int = 0) -> SplitReader:
        """Return the source's reader, its columns narrowed."""
        return _NarrowReader(self._source.open(split, position), self._scan)

    def project(self, columns: Sequence[str]) -> CompletedSource:
        """Return a source that drops the other columns after reading."""
        other = copy.copy(self)
        other._scan = self._scan.project(columns)
        return other

    def filter(self, predicate: pc.Expression) -> None:
        """Leave filtering to the engine."""


class _NarrowReader:
    def __init__(self, reader: SplitReader, scan: Scan) -> None:
        self._reader = reader
        self._scan = scan
        self._schema = scan.schema

    @property
    def position(self) -> int:
        return self._reader.position

    def read(self, max_rows: int) -> Chunk | None:
        chunk = self._reader.read(max_rows)
        if chunk is None:
            return None
        batch = relabel(chunk.batch.select(list(self._scan.columns)), self._schema)
        return Chunk(batch, chunk.scanned)

    def wake_descriptor(self) -> int | None:
        own = getattr(self._reader, "wake_descriptor", None)
        return own() if own else None

    def close(self) -> None:
        close = getattr(self._reader, "close", None)
        if close:
            close()


class _Function:
    def __init__(self, function: Callable[[pa.RecordBatch], object]) -> None:
        self.write = function


class CompletedSink:
    """A user's sink with the defaults of `as_sink`."""

    def __init__(self, sink: Any) -> None:
        self._sink = sink

    def begin(self, schema: pa.Schema, rank: int, size: int, attempt: int) -> None:
        """Tell the sink, if it wants to know."""
        self._call("begin", schema, rank, size, attempt)

    def write(self, batch: pa.RecordBatch) -> None:
        """Pass the batch on."""
        self._sink.write(batch)

    def prepare(self) -> list[Part]:
        """Return the sink's parts; none if it has no such notion."""
        return list(self._call("prepare") or ())

    def commit(self, parts: Sequence[Part]) -> None:
        """Tell the sink, if it wants to know."""
        self._call("commit", parts)

    def abort(self) -> None:
        """Tell the sink, if it wants to know."""
        self._call("abort")

    def _call(self, method: str, *arguments: Any) -> Any:
        own = getattr(self._sink, method, None)
        return own(*arguments) if own else None
