"""Generated streams: rows made from their numbers, as fast as they are read or at a rate."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.columns.types.given import SchemaLike, given_schema
from hpcstream.connectors.base import JSON, Source, Split, SplitReader, row_position
from hpcstream.connectors.files.slicing import BatchReader
from hpcstream.connectors.files.time_bounds import Bounds
from hpcstream.connectors.in_process.generators import ColumnGenerator, TimesGenerator, column_seed
from hpcstream.connectors.in_process.paced import Lane, LaneReader, Schedule
from hpcstream.connectors.scan import (
    Scan,
    check_event_time,
    first_difference,
    one_batch,
    plain_schema,
    relabel,
)
from hpcstream.errors import ConnectorError
from hpcstream.process.early_exit import exits_are_errors

BLOCK_ROWS = 65_536
"""Rows that a function is asked for at a time when there is no rate."""

SPLITS = 64
"""Into how many parts a stream without a rate is cut if nothing else is said."""

LANES = 16
"""Into how many parts a stream with a rate is cut if nothing else is said."""

Function = Callable[[int, int], Any]
"""``function(start, n_rows)`` returns a batch, table or dict of columns: a pure function."""


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """Options of a generated stream.

    Attributes
    ----------
    splits : int, optional
        Independent parts, at least one per rank. Without a rate they are consecutive
        (default 64; fewer for a short stream); with a rate the rows are interleaved
        (default 16; where latency matters, one per rank).
    block_rows : int, optional
        Rows made at a time (default 65,536; with a rate at most 10 ms worth).
    schema : pa.Schema or types by name, optional
        Of a function; else it is asked for one row.
    seed : int
        Of the column generators.
    start : float, optional
        When the schedule starts, by ``clock``; default: when a rank opens its first split.
    clock : function
        Seconds, for the schedule.

    Raises
    ------
    ValueError
        ``splits`` or ``block_rows`` is not positive.
    """

    splits: int | None = None
    block_rows: int | None = None
    schema: SchemaLike | None = None
    seed: int = 0
    start: float | None = None
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        for name, value in (("splits", self.splits), ("block_rows", self.block_rows)):
            if value is not None and value < 1:
                raise ValueError(f"generate: {name} must be at least 1, got {value}")


class GenerateSource(Source):
    """A stream made by a function of row numbers or by column generators.

    The function is always called with the same blocks of rows (``start`` a multiple of
    ``block_rows``), however the stream is read, so that it may be, for example, seeded
    with ``start``. With a rate, every rank calls it for all rows, and keeps its own.

    Parameters
    ----------
    generator : function or mapping of str to ColumnGenerator
        ``function(start, n_rows)``, or names with what `hpcstream.connectors.in_process.generators`
        makes.
    rows : int, optional
        Of the whole stream; without it, it has no end, and needs a rate.
    rate : float, optional
        Rows a second on all ranks together. The stream is then live and open loop: row
        ``i`` is due ``(i + 1) / rate`` seconds after the start, whether or not the job
        keeps up.
    event_time, unit : str, optional
        Event-time column, and its unit if it is int64.
    **options
        The attributes of `GenerateOptions`.

    Raises
    ------
    ValueError
        Neither ``rows`` nor ``rate``, or one that makes no sense.
    """

    def __init__(
        self,
        generator: Function | Mapping[str, ColumnGenerator],
        *,
        rows: int | None = None,
        rate: float | None = None,
        event_time: str | None = None,
        unit: str | None = None,
        **options: Any,
    ) -> None:
        _check_numbers(rows, rate)
        chosen = GenerateOptions(**options)
        self._columns = None if callable(generator) else dict(generator)
        self._function = generator if callable(generator) else None
        self._rows, self._rate = rows, rate
        self._splits = chosen.splits or (SPLITS if rate is None else LANES)
        self._block_rows = chosen.block_rows or _default_block_rows(rate)
        self._event_time = event_time
        self._seeds = {name: column_seed(chosen.seed, name) for name in self._columns or ()}
        self._turn: tuple[int, pa.RecordBatch] | None = None
        self._schedule = Schedule(rate, chosen.start, chosen.clock) if rate else None
        schema = chosen.schema
        found = self._find_schema() if schema is None else given_schema(schema, "generate(schema=)")
        self._scan = Scan.of(plain_schema(found, "generate"))
        check_event_time(self._scan.full_schema, event_time, unit)

    @property
    def bounded(self) -> bool:  # type: ignore[override]
        """Whether there is no rate, so that the job reads as fast as it can."""
        return self._rate is None

    @property
    def schema(self) -> pa.Schema:
        """Of the batches delivered."""
        return self._scan.schema

    def describe(self) -> str:
        """Return what is generated."""
        what = [f"generate(rows={self._rows}, rate={self._rate})", self._scan.describe()]
        return ", ".join(filter(None, what))

    def identity(self) -> str:
        """Return how many rows are generated, and how fast."""
        return f"generate(rows={self._rows!r}, rate={self._rate!r})"

    def list_splits(self) -> list[Split]:
        """Return ranges of rows, or with a rate lanes that have the rows in turn."""
        if self._rate is not None:
            return [Split(f"lane{k}", {"lane": k}) for k in range(self._splits)]
        rows = cast("int", self._rows)
        step = self._blocks(rows, self._splits) * self._block_rows
        return [self._range(start, min(start + step, rows)) for start in range(0, rows, step)]

    def open(self, split: Split, position: JSON = None) -> SplitReader:
        """Return a reader of a range or of a lane."""
        row = row_position(position)
        if self._schedule is not None:
            block_rows = max(1, self._block_rows // self._splits)
            lane = Lane(cast("int", split.info["lane"]), self._splits, block_rows)
            return LaneReader(
                self._lane_rows, self._scan.schema, lane, self._rows, self._schedule, row
            )
        first, stop = cast("int", split.info["start"]), cast("int", split.info["stop"])
        start = row // self._block_rows * self._block_rows

        def batches(max_rows: int) -> Iterator[pa.RecordBatch]:
            for at in range(first + start, stop, self._block_rows):
                yield self._block(at, min(self._block_rows, stop - at))

        return BatchReader(batches, self._scan, row, start)

    def project(self, columns: Sequence[str]) -> GenerateSource:
        """Return a source of these columns; others that are generated apart are not made."""
        other = copy.copy(self)
        other._scan = self._scan.project(columns)
        return other

    def filter(self, predicate: pc.Expression) -> None:
        """Leave filtering to the engine."""

    def _find_schema(self) -> pa.Schema:
        if self._columns is not None:
            return pa.schema(
                [pa.field(name, column.type) for name, column in self._columns.items()]
            )
        assert self._function is not None
        with exits_are_errors():
            return _as_batch(self._function(0, 0 if self._rows == 0 else 1)).schema

    def _blocks(self, rows: int, splits: int) -> int:
        """Return how many blocks make a split."""
        blocks = -(-rows // self._block_rows)
        return max(1, -(-blocks // splits))

    def _range(self, start: int, stop: int) -> Split:
        info = {"start": start, "stop": stop}
        return Split(f"rows{start}-{stop}", info, stop - start, *self._bounds(start, stop))

    def _bounds(self, start: int, stop: int) -> Bounds:
        column = (self._columns or {}).get(self._event_time or "")
        return column.bounds(start, stop) if isinstance(column, TimesGenerator) else (None, None)

    def _block(self, start: int, n_rows: int) -> pa.RecordBatch:
        """Return rows of the block that begins at ``start``, in the projected schema."""
        if self._columns is not None:
            return self._made(self._columns, start, n_rows, 1)
        return self._called(start, n_rows)

    def _lane_rows(self, lane: Lane, position: int, n_rows: int) -> pa.RecordBatch:
        """Return rows of a lane, beginning at one of its blocks."""
        if self._columns is not None:
            return self._made(self._columns, lane.row(position), n_rows, lane.n_lanes)
        start = position * lane.n_lanes
        stop = start + lane.block_rows * lane.n_lanes
        stop = stop if self._rows is None else min(stop, self._rows)
        if self._turn is None or self._turn[0] != start:  # the rank's other lanes want it too
            self._turn = start, self._called(start, stop - start)
        batch = self._turn[1]
        return batch.take(pa.array(range(lane.number, batch.num_rows, lane.n_lanes), pa.int64()))

    def _made(
        self, columns: Mapping[str, ColumnGenerator], start: int, n_rows: int, stride: int
    ) -> pa.RecordBatch:
        names = self._scan.columns or tuple(columns)[:1]  # one, for its length
        arrays = [columns[n].values(start, n_rows, self._seeds[n], stride) for n in names]
        batch = pa.RecordBatch.from_arrays(arrays, names=list(names))
        return relabel(batch.select(list(self._scan.columns)), self._scan.schema)

    def _called(self, start: int, n_rows: int) -> pa.RecordBatch:
        assert self._function is not None, "there are columns or a function"
        batch = _as_batch(self._function(start, n_rows))
        difference = first_difference(self._scan.full_schema, batch.schema)
        if difference or batch.num_rows != n_rows:
            found = difference or f"{batch.num_rows} rows"
            raise ConnectorError(f"generate: function({start}, {n_rows}) returned {found}")
        return relabel(batch.select(list(self._scan.columns)), self._scan.schema)


def _default_block_rows(rate: float | None) -> int:
    return BLOCK_ROWS if rate is None else min(BLOCK_ROWS, int(rate / 100) or 1)


def _as_batch(made: Any) -> pa.RecordBatch:
    if isinstance(made, pa.RecordBatch):
        return made
    if isinstance(made, pa.Table):
        return one_batch(made)
    if isinstance(made, Mapping):
        return pa.record_batch(dict(made))
    raise TypeError(
        f"generate: the function returned {type(made).__name__}; "
        "expected a RecordBatch, a Table or a dict of columns"
    )


def _check_numbers(rows: int | None, rate: float | None) -> None:
    if rows is None and rate is None:
        raise ValueError("generate: give rows= (how many), rate= (how many a second), or both")
    if rows is not None and rows < 0:
        raise ValueError(f"generate: rows must not be negative, got {rows}")
    if rate is not None and rate <= 0:
        raise ValueError(f"generate: rate must be positive, got {rate}")
