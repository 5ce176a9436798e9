"""Adapts small sources and sinks of users to the full interface.

A source needs ``schema``, ``list_splits`` and ``open``; what it leaves out is: bounded,
described by its class name, projected after reading, filtered by the engine. A sink
needs ``write(batch)``, or is just a function of a batch; what it leaves out does
nothing. Such a sink has no way to take rows back, so it sees rows at most once per
attempt, and those of a failed attempt too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.connectors.base import JSON, Chunk, OutputPart, Sink, Source, Split, SplitReader
from hpcstream.connectors.scan import Scan, plain_schema, relabel
from hpcstream.metric import MetricsOf
from hpcstream.stable_keys import function_name

_SOURCE = ("schema", "list_splits", "open")


def as_source(source: Any) -> Source:
    """Return ``source`` as a full `Source`.

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
    if isinstance(source, Source) and _has_own(source, "project"):
        return source
    return SourceWithDefaults(source)


def as_sink(sink: Any) -> Sink:
    """Return ``sink`` (an object with ``write``, or a function of a batch) as a full `Sink`.

    Raises
    ------
    TypeError
        It is neither.
    """
    if not hasattr(sink, "write"):
        if callable(sink):
            return SinkWithDefaults(_Function(sink))
        raise TypeError(
            f"sink {type(sink).__name__} has no write(batch) and cannot be called with a batch"
        )
    return sink if isinstance(sink, Sink) else SinkWithDefaults(sink)


def own_identity(connector: Any) -> str:
    """Return the identity of a source or sink in checkpoints, whatever else it lacks."""
    for method in ("identity", "describe"):
        own = getattr(connector, method, None)
        if own is not None:
            return str(own())
    return type(connector).__qualname__


class SourceWithDefaults(Source):
    """A user's source with the defaults of `Source`, projected after reading."""

    measured = MetricsOf("_source")

    def __init__(self, source: Any) -> None:
        self._source = source
        self._scan = Scan.of(plain_schema(source.schema, type(source).__name__))
        self.schema = self._scan.schema
        self._is_projected = False  # by itself
        self.bounded = bool(getattr(source, "bounded", True))
        self.per_rank = bool(getattr(source, "per_rank", False))

    def describe(self) -> str:
        """Return the source's own description, else the name of its class."""
        own = getattr(self._source, "describe", None)
        name = own() if own else type(self._source).__name__
        return ", ".join(filter(None, [name, self._scan.describe()]))

    def identity(self) -> str:
        """Return the source's own identity, else its description, else the name of its class."""
        return own_identity(self._source)

    def list_splits(self) -> list[Split]:
        """Return the source's splits."""
        return list(self._source.list_splits())

    def files(self) -> list[str]:
        """Return the files that the source says it reads."""
        own = getattr(self._source, "files", None)
        return list(own()) if own else []

    @property
    def discovers(self) -> bool:
        """Whether the source has a `discover` of its own."""
        return _has_own(self._source, "discover")

    def discover(self) -> list[Split] | None:
        """Return the splits that the source has now; None if there will be no others."""
        found = self._source.discover()
        return None if found is None else list(found)

    @property
    def hears_commits(self) -> bool:
        """Whether the source has a `committed` of its own."""
        return _has_own(self._source, "committed")

    def committed(self, positions: Mapping[str, JSON]) -> None:
        """Pass the positions on to the source."""
        self._source.committed(positions)

    def open(self, split: Split, position: JSON = None) -> SplitReader:
        """Return the source's reader, its columns narrowed."""
        at = () if position is None else (position,)
        reader = as_reader(self._source.open(split, *at))
        return reader if self._is_projected else _NarrowReader(reader, self._scan)

    def project(self, columns: Sequence[str]) -> SourceWithDefaults:
        """Return a source of these columns; the others are dropped after reading if need be."""
        other = copy.copy(self)
        if _has_own(self._source, "project"):
            other._is_projected = True
            other._source = self._source.project(columns)
            other._scan = Scan.of(plain_schema(other._source.schema, type(self._source).__name__))
        else:
            other._scan = self._scan.project(columns)
        other.schema = other._scan.schema
        return other

    def filter(self, predicate: pc.Expression) -> SourceWithDefaults | None:
        """Return the source with a filter; None leaves filtering to the engine."""
        matching = self._source.filter(predicate) if _has_own(self._source, "filter") else None
        if matching is None:
            return None
        other = copy.copy(self)
        other._source = matching
        return other


def _has_own(source: Any, method: str) -> bool:
    """Whether a source has a method that is not the default of `Source`."""
    found = getattr(type(source), method, None)
    return found is not getattr(Source, method) and hasattr(source, method)


def as_reader(reader: Any) -> SplitReader:
    """Return ``reader``, an object with ``read``, as a full `SplitReader`."""
    return reader if isinstance(reader, SplitReader) else _ReaderWithDefaults(reader)


class _ReaderWithDefaults(SplitReader):
    """A user's reader with the defaults of `SplitReader`."""

    def __init__(self, reader: Any) -> None:
        self._read = reader.read
        self._descriptor = getattr(reader, "wake_descriptor", _nothing)
        self._close = getattr(reader, "close", _nothing)

    def read(self, max_rows: int) -> Chunk | None:
        chunk: Chunk | None = self._read(max_rows)
        return chunk

    def wake_descriptor(self) -> int | None:
        number: int | None = self._descriptor()
        return number

    def close(self) -> None:
        self._close()


def _nothing() -> None:
    return None


class _NarrowReader(SplitReader):
    def __init__(self, reader: SplitReader, scan: Scan) -> None:
        self._reader = reader
        self._names = list(scan.columns)
        self._schema = scan.schema

    def read(self, max_rows: int) -> Chunk | None:
        chunk = self._reader.read(max_rows)
        if chunk is None:
            return None
        batch = relabel(chunk.batch.select(self._names), self._schema)
        return Chunk(batch, chunk.scanned, chunk.position)

    def wake_descriptor(self) -> int | None:
        return self._reader.wake_descriptor()

    def close(self) -> None:
        self._reader.close()


class _Function:
    def __init__(self, function: Callable[[pa.RecordBatch], object]) -> None:
        self.write = function

    def describe(self) -> str:
        return function_name(self.write)

    def identity(self) -> str:
        return function_name(self.write)


class SinkWithDefaults(Sink):
    """A user's sink, with the defaults of `Sink` for the methods that it leaves out."""

    measured = MetricsOf("_sink")

    def __init__(self, sink: Any) -> None:
        self._sink = sink

    def describe(self) -> str:
        """Return the sink's own description, else the name of its class."""
        return str(self._own("describe", lambda: type(self._sink).__name__)())

    def identity(self) -> str:
        """Return the sink's own identity, else its description, else the name of its class."""
        return own_identity(self._sink)

    @property
    def target(self) -> str | None:
        """The target that the sink declares as exclusive."""
        own: str | None = getattr(self._sink, "target", None)
        return own

    def begin(self, schema: pa.Schema, rank: int, size: int, attempt: int) -> None:
        """Call the sink's method, if it has one."""
        self._own("begin", super().begin)(schema, rank, size, attempt)

    def write(self, batch: pa.RecordBatch) -> None:
        """Pass the batch on."""
        self._sink.write(batch)

    def prepare(self) -> list[OutputPart]:
        """Return the sink's parts; none if it has no `prepare`."""
        return list(self._own("prepare", super().prepare)() or ())

    def commit(self, parts: Sequence[OutputPart]) -> None:
        """Call the sink's method, if it has one."""
        self._own("commit", super().commit)(parts)

    def abort(self) -> None:
        """Call the sink's method, if it has one."""
        self._own("abort", super().abort)()

    @property
    def commits_in_background(self) -> bool:
        """Whether the sink has a `cut` of its own."""
        return hasattr(self._sink, "cut")

    def cut(self) -> Callable[[], Sequence[OutputPart]]:
        """Call the sink's `cut`, or make what was written durable now."""
        made_durable: Callable[[], Sequence[OutputPart]] = self._own("cut", super().cut)()
        return made_durable

    def position(self) -> JSON:
        """Return the position of the sink."""
        position: JSON = self._own("position", super().position)()
        return position

    def resume(
        self, schema: pa.Schema, rank: int, size: int, attempt: int, stored: Mapping[str, Any]
    ) -> None:
        """Resume the sink from a checkpoint, or begin it and commit the checkpoint's parts."""
        self._own("resume", super().resume)(schema, rank, size, attempt, stored)

    def superseded(self, listed: Sequence[OutputPart]) -> None:
        """Call the sink's method, if it has one."""
        self._own("superseded", super().superseded)(listed)

    def snapshot(self) -> Mapping[str, np.ndarray]:
        """Return the rows that the sink keeps in memory."""
        kept: Mapping[str, np.ndarray] = self._own("snapshot", super().snapshot)()
        return kept

    def restore(self, snapshots: Sequence[Mapping[str, Any]]) -> None:
        """Restore the sink from its snapshots."""
        self._own("restore", super().restore)(snapshots)

    def _own(self, method: str, default: Callable[..., Any]) -> Callable[..., Any]:
        found: Callable[..., Any] = getattr(self._sink, method, default)
        return found
