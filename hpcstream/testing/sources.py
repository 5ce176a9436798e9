"""Sources that a test feeds: all at once, or step by step while the job runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import pyarrow as pa

from hpcstream.connectors.base import JSON, Chunk, Source, Split, SplitReader, row_position
from hpcstream.connectors.files.time_bounds import bounds_of_column
from hpcstream.connectors.scan import empty_batch

Rows: TypeAlias = (
    pa.RecordBatch | pa.Table | Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]]
)
"""Rows of a test: Arrow, columns by name, or a list of dictionaries."""


def as_batch(rows: Rows, schema: pa.Schema | None = None) -> pa.RecordBatch:
    """Return rows as one batch, of ``schema`` if that is given."""
    if isinstance(rows, pa.RecordBatch):
        batch = rows
    elif isinstance(rows, pa.Table):
        batch = rows.combine_chunks().to_batches()[0] if rows.num_rows else _empty(rows.schema)
    elif isinstance(rows, Mapping):
        return pa.RecordBatch.from_pydict({k: list(v) for k, v in rows.items()}, schema=schema)
    else:
        return pa.RecordBatch.from_pylist(list(rows), schema=schema)
    if schema is not None and batch.schema != schema:
        raise ValueError(f"rows have the schema\n{batch.schema}\nbut the source has\n{schema}")
    return batch


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return empty_batch(schema)


class _Tape:
    """The contents of one split, in order: batches, and exceptions to raise instead."""

    def __init__(self) -> None:
        self.items: list[tuple[int, pa.RecordBatch | BaseException]] = []
        self.n_rows = 0
        self.ended = False

    def add(self, item: pa.RecordBatch | BaseException) -> None:
        self.items.append((self.n_rows, item))
        if isinstance(item, pa.RecordBatch):
            self.n_rows += item.num_rows

    def first_item(self, position: int) -> int:
        """Return the number of the first item that is not behind a position."""
        for number, (first, item) in enumerate(self.items):
            n_rows = item.num_rows if isinstance(item, pa.RecordBatch) else 0
            if first >= position or first + n_rows > position:
                return number
        return len(self.items)


class _TapeReader(SplitReader):
    """Reads a tape, which may grow meanwhile."""

    def __init__(self, tape: _Tape, schema: pa.Schema, position: int) -> None:
        self._tape = tape
        self._nothing = Chunk(_empty(schema), 0)
        self.position = position
        self._next = tape.first_item(position)

    def read(self, max_rows: int) -> Chunk | None:
        parts: list[pa.RecordBatch] = []
        left = max_rows
        while left > 0 and self._next < len(self._tape.items):
            first, item = self._tape.items[self._next]
            if isinstance(item, BaseException):
                if parts:
                    break
                self._next += 1
                raise item
            part = item.slice(self.position - first, left)
            if first + item.num_rows <= self.position + part.num_rows:
                self._next += 1
            self.position += part.num_rows
            left -= part.num_rows
            parts.append(part)
        if parts:
            batch = pa.concat_batches(parts)
            return Chunk(batch, batch.num_rows)
        if self._tape.ended and self._next == len(self._tape.items):
            return None
        return self._nothing

    def close(self) -> None:
        """Do nothing: the reader holds no resource."""


class _TapeSource(Source):
    def __init__(self, schema: pa.Schema, n_splits: int) -> None:
        self.schema = schema
        self._tapes = [_Tape() for _ in range(n_splits)]

    def describe(self) -> str:
        """Return one line for ``explain()``."""
        return f"{type(self).__name__}({len(self._tapes)} splits)"

    def list_splits(self) -> list[Split]:
        """Return the splits, by number."""
        return [Split(f"split-{i}", {"tape": i}) for i in range(len(self._tapes))]

    def open(self, split: Split, position: JSON = None) -> _TapeReader:
        """Return a reader of a split."""
        tape = self._tapes[split.info["tape"]]  # type: ignore[index]
        return _TapeReader(tape, self.schema, row_position(position))


class StepSource(_TapeSource):
    """A live source that a test feeds while the job runs; see `start_ranks`.

    One object serves all simulated ranks: make it outside of ``build``. Its splits
    are assigned to ranks by number.

    Parameters
    ----------
    schema : pyarrow.Schema
    n_splits : int

    Examples
    --------
    >>> import pyarrow as pa
    >>> from hpcstream.testing import StepSource
    >>> feed = StepSource(pa.schema({"t": pa.int64()}), n_splits=2)
    >>> feed.push({"t": [1, 2]})
    >>> feed.push([{"t": 5}], split=1)
    >>> feed.end()
    """

    bounded = False

    def __init__(self, schema: pa.Schema, *, n_splits: int = 1) -> None:
        super().__init__(schema, n_splits)

    def push(self, rows: Rows, *, split: int = 0) -> None:
        """Add rows to a split; its rank reads them in its next turns."""
        self._tapes[split].add(as_batch(rows, self.schema))

    def fail(self, error: BaseException, *, split: int = 0) -> None:
        """Make the split raise ``error`` after the rows before it."""
        self._tapes[split].add(error)

    def end(self, *, split: int | None = None) -> None:
        """End a split, or all of them."""
        for tape in self._tapes if split is None else [self._tapes[split]]:
            tape.ended = True


class ListSource(_TapeSource):
    """A bounded source of splits written as lists.

    Parameters
    ----------
    splits : sequence of sequences of rows or exceptions
        The contents of each split; exceptions among the rows are raised.
    schema : pyarrow.Schema, optional
        Needed if there are no rows; else that of the first.
    event_time : str, optional
        Column to take each split's least and greatest time from, as files with
        statistics have them.
    """

    bounded = True

    def __init__(
        self,
        splits: Sequence[Sequence[Rows | BaseException]],
        *,
        schema: pa.Schema | None = None,
        event_time: str | None = None,
    ) -> None:
        given = [rows for split in splits for rows in split if not isinstance(rows, BaseException)]
        if schema is None:
            if not given:
                raise ValueError("ListSource: no rows are given, so give schema=")
            schema = as_batch(given[0]).schema
        super().__init__(schema, len(splits))
        self._event_time = event_time
        for tape, items in zip(self._tapes, splits, strict=True):
            tape.ended = True
            for item in items:
                tape.add(item if isinstance(item, BaseException) else as_batch(item, schema))

    def list_splits(self) -> list[Split]:
        """Return the splits, with their times if ``event_time`` was given."""
        splits = super().list_splits()
        if self._event_time is None:
            return splits
        return [self._timed(split, tape) for split, tape in zip(splits, self._tapes, strict=True)]

    def _timed(self, split: Split, tape: _Tape) -> Split:
        batches = [item for _, item in tape.items if isinstance(item, pa.RecordBatch)]
        if not batches:
            return split
        column = pa.concat_batches(batches).column(self._event_time)
        first, last = bounds_of_column(column)
        return Split(split.id, split.info, tape.n_rows, first, last)
