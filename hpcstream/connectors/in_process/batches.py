"""Sources of rows in memory: batches, a table, a data frame, or a generator."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.columns.types.given import SchemaLike, given_schema
from hpcstream.connectors.base import JSON, Source, Split, SplitReader, row_position
from hpcstream.connectors.files.slicing import BatchReader
from hpcstream.connectors.files.time_bounds import Bounds, bounds_of_column
from hpcstream.connectors.scan import (
    Scan,
    check_event_time,
    empty_batch,
    first_difference,
    plain_schema,
    relabel,
)
from hpcstream.errors import ConnectorError

TABLE_BATCH_ROWS = 65_536
"""A table is dealt in batches of at most this many rows."""

Batches = Any
"""A RecordBatch, Table or pandas DataFrame, an iterable of RecordBatches or Tables, or a
function without arguments that returns one of these."""


class BatchesSource(Source):
    """Reads batches that the script has.

    Anything that has a length (list, table, data frame) is dealt by batch number: each
    batch is a split. A generator or iterator has to be read in order, so it is one split,
    read lazily on one rank; give a function that returns it, and a run can be repeated.

    Parameters
    ----------
    batches : RecordBatch, Table, DataFrame, iterable of RecordBatch or Table, or function
        The whole stream, the same on every rank; with ``per_rank`` this rank's share.
    per_rank : bool
        Each rank gives its own batches.
    event_time : str, optional
        Column of event time, to find the bounds of each batch.
    unit : str, optional
        Its unit, if it is int64.
    schema : pa.Schema or types by name, optional
        Needed if there may be no batch; else that of the first batch.

    Raises
    ------
    ValueError
        No batch and no schema.
    """

    bounded = True

    def __init__(
        self,
        batches: Batches,
        *,
        per_rank: bool = False,
        event_time: str | None = None,
        unit: str | None = None,
        schema: SchemaLike | None = None,
    ) -> None:
        self.per_rank = per_rank
        self._event_time = event_time
        given = _as_batches(batches)
        self._list: list[pa.RecordBatch] | None = given if isinstance(given, list) else None
        self._stream: _Stream | None = None
        if self._list is None:
            assert not isinstance(given, list)
            self._stream = _Stream(given)
        where = "from_batches(schema=)"
        found = self._first_schema() if schema is None else given_schema(schema, where)
        self._scan = Scan.of(plain_schema(found, "from_batches"))
        check_event_time(self._scan.full_schema, event_time, unit)
        for i, batch in enumerate(self._list or ()):
            _check(batch, self._scan.full_schema, i)

    @property
    def schema(self) -> pa.Schema:
        """Of the batches delivered."""
        return self._scan.schema

    def describe(self) -> str:
        """Return what is read, with columns and filter."""
        count = "a generator" if self._list is None else _counted(len(self._list))
        where = "on each rank" if self.per_rank else None
        return ", ".join(filter(None, [f"from_batches({count})", where, self._scan.describe()]))

    def identity(self) -> str:
        """Return how many batches are read, and from where."""
        count = "stream" if self._list is None else len(self._list)
        return f"from_batches({count}, per_rank={self.per_rank})"

    def list_splits(self) -> list[Split]:
        """Return a split for each batch that has rows, or one for a generator."""
        if self._list is None:
            return [Split("batches")]
        return [
            Split(f"batch-{i}", {"batch": i}, batch.num_rows, *self._bounds(batch))
            for i, batch in enumerate(self._list)
            if batch.num_rows
        ]

    def open(self, split: Split, position: JSON = None) -> SplitReader:
        """Return a reader; a generator can be opened once, a function's any number of times."""

        def batches(max_rows: int) -> Iterator[pa.RecordBatch]:
            source = self._stream if self._list is None else [self._list[_number(split)]]
            assert source is not None
            for i, batch in enumerate(source):
                _check(batch, self._scan.full_schema, i)
                narrow = batch.select(self._scan.read_columns)
                yield relabel(narrow, self._scan.read_schema)

        return BatchReader(batches, self._scan, row_position(position))

    def project(self, columns: Sequence[str]) -> BatchesSource:
        """Return a source of these columns only."""
        return self._with(self._scan.project(columns))

    def filter(self, predicate: pc.Expression) -> None:
        """Refuse: the rows are in memory, so filtering them here would save nothing."""

    def _with(self, scan: Scan) -> BatchesSource:
        other = copy.copy(self)
        other._scan = scan
        return other

    def _first_schema(self) -> pa.Schema:
        first = next(iter(self._list), None) if self._list is not None else self._peek()
        if first is None:
            raise ValueError(
                "from_batches: no batch was given, so the columns are not known; give schema=, or "
                "a table, which has a schema even without rows"
            )
        return first.schema

    def _peek(self) -> pa.RecordBatch | None:
        assert self._stream is not None
        return self._stream.peek()

    def _bounds(self, batch: pa.RecordBatch) -> Bounds:
        if self._event_time is None:
            return None, None
        return bounds_of_column(batch.column(self._event_time))


class _Stream:
    """Batches in order from a function (fresh each time) or from an iterator (once)."""

    def __init__(self, given: Callable[[], Any] | Iterator[Any]) -> None:
        self._make = given if callable(given) else None
        self._once: Iterator[pa.RecordBatch] | None = None
        if self._make is None:
            assert not callable(given)
            self._once = _flatten(given)

    def peek(self) -> pa.RecordBatch | None:
        """Return the first batch; of an iterator it is kept for the reader."""
        if self._once is None:
            return next(iter(self), None)
        first = next(self._once, None)
        if first is not None:
            self._once = chain([first], self._once)
        return first

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        if self._make is not None:
            again = _as_batches(self._make())
            return iter(again) if isinstance(again, list) else _flatten(_iterator(again))
        if self._once is None:
            raise ConnectorError(
                "from_batches: this generator has already been read; "
                "give the function that makes it, or a list, to read it again"
            )
        once, self._once = self._once, None
        return once


def _counted(n_batches: int) -> str:
    return "1 batch" if n_batches == 1 else f"{n_batches} batches"


def _as_batches(given: Any) -> list[pa.RecordBatch] | Callable[[], Any] | Iterator[Any]:
    if isinstance(given, Iterator):
        return given
    if callable(given):
        make: Callable[[], Any] = given
        return make
    if isinstance(given, pa.RecordBatch):
        return [given]
    if isinstance(given, pa.Table):
        dealt: list[pa.RecordBatch] = given.to_batches(max_chunksize=TABLE_BATCH_ROWS)
        return dealt or _no_rows(given.schema)
    if _is_data_frame(given):
        return _as_batches(pa.Table.from_pandas(given, preserve_index=False))
    if hasattr(given, "__arrow_c_stream__"):  # Polars, DuckDB and their kin
        return _as_batches(_imported(given))
    if isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping | np.ndarray):
        items = list(given)
        return list(_flatten(items)) or _no_rows_of(items)
    raise TypeError(
        f"from_batches: expected RecordBatch, Table, DataFrame, an iterable of batches or a "
        f"function that returns one, got {_what_it_is(given)}"
    )


def _imported(given: Any) -> pa.Table:
    """Return the table that another library hands over; a single column is refused."""
    try:
        return pa.table(given)
    except pa.ArrowInvalid as error:
        raise TypeError(
            f"from_batches: {type(given).__name__} is not a table ({error}); "
            "pa.table({'name': values}) makes a table of a column"
        ) from None


def _what_it_is(given: Any) -> str:
    """Return the type of an object, and a hint how to convert it to rows."""
    name = type(given).__name__
    if isinstance(given, Mapping):
        return f"{name}; pa.table(columns) makes a table of columns, pa.Table.from_pylist of rows"
    if _is_data_frame(given):
        return f"{name}; pa.Table.from_pandas(frame, preserve_index=False) makes a table of it"
    if isinstance(given, np.ndarray | np.generic):
        return f"{name}; pa.table({{'name': values}}) makes a table of arrays"
    if isinstance(given, str | Path):
        return f"{name}; files are read by job.read_parquet(path), read_csv(path) and their kin"
    return name


def _iterator(given: Any) -> Iterator[Any]:
    if isinstance(given, Iterator):
        return given
    raise TypeError(f"from_batches: the function returned {type(given).__name__}, not batches")


def _flatten(items: Iterable[Any]) -> Iterator[pa.RecordBatch]:
    for i, item in enumerate(items):
        if isinstance(item, pa.RecordBatch):
            yield item
        elif isinstance(item, pa.Table):
            yield from item.to_batches()
        else:
            raise TypeError(
                f"from_batches: item {i}: expected RecordBatch or Table, got {_what_it_is(item)}"
            )


def _no_rows_of(items: Sequence[Any]) -> list[pa.RecordBatch]:
    """Return the columns of the first of some tables without rows, as a batch without rows."""
    return _no_rows(items[0].schema) if items else []


def _no_rows(schema: pa.Schema) -> list[pa.RecordBatch]:
    return [empty_batch(schema)]


def _is_data_frame(given: Any) -> bool:
    """Whether it is a pandas DataFrame; does not import pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(given, pandas.DataFrame)


def _check(batch: pa.RecordBatch, schema: pa.Schema, number: int) -> None:
    difference = first_difference(schema, batch.schema)
    if difference:
        raise ConnectorError(f"from_batches: batch {number} differs from the schema: {difference}")


def _number(split: Split) -> int:
    number = split.info["batch"]
    assert isinstance(number, int)
    return number
