"""Reads a rank's splits and closes rounds.

A bounded source is read split after split, by rows scanned alone, so that its
rounds are a function of the input. A live source is polled; the clock closes
its rounds (`hpcstream.runtime.sources.pacing`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from hpcstream.checkpoint.json_text import JsonText
from hpcstream.columns.arrays import fixed_row_bytes
from hpcstream.columns.event_time import MAX_TIME, MIN_TIME, ORDER_COLUMN, TIME_COLUMN, least_mark
from hpcstream.columns.row_order import orders_of_rows
from hpcstream.columns.time_values import event_time_values
from hpcstream.columns.types.plain import plain_column
from hpcstream.connectors.adapt import as_reader
from hpcstream.connectors.base import JSON, Chunk, Source, Split, SplitReader
from hpcstream.errors import ConnectorError
from hpcstream.operators.stream_time import EventTime
from hpcstream.runtime.watermark import BoundedWatermark, SplitWatermark


@dataclass(frozen=True)
class SourceSpec:
    """What a rank needs to know to read a source.

    Attributes
    ----------
    source : Source
    names : tuple of str
        The user's columns to hand on.
    time : EventTime or None
    watermark_delay : int
        In ticks.
    idle_timeout_s : float or None
    has_order : bool
        Whether rows get `ORDER_COLUMN`.
    ordinal : int
        Number of the source in the job, for their order.
    """

    source: Source
    names: tuple[str, ...]
    time: EventTime | None
    watermark_delay: int
    idle_timeout_s: float | None
    has_order: bool
    ordinal: int = 0

    @property
    def schema(self) -> pa.Schema:
        """Columns handed on, hidden ones last."""
        fields = [self.source.schema.field(name) for name in self.names]
        if self.time is not None:
            fields.append(pa.field(TIME_COLUMN, pa.int64()))
        if self.has_order:
            fields.append(pa.field(ORDER_COLUMN, pa.int64()))
        return pa.schema(fields)


class RowStamper:
    """Adds the hidden columns to a source's batches."""

    def __init__(self, spec: SourceSpec) -> None:
        self._spec = spec
        self._schema = spec.schema
        self._as_is = tuple(spec.source.schema.names) == spec.names
        types = enumerate(field.type for field in self._schema)
        self._encoded = [i for i, t in types if pa.types.is_dictionary(t)]

    def stamp(self, batch: pa.RecordBatch, split: Split, number: int, start: int) -> pa.RecordBatch:
        """Return the batch with event time, and its row order if the plan needs it."""
        spec = self._spec
        columns = batch.columns if self._as_is else [batch.column(name) for name in spec.names]
        for i in self._encoded:
            columns[i] = plain_column(columns[i], self._schema.field(i).type)
        if spec.time is not None:
            columns = [*columns, self._times(batch, split, start)]
        if spec.has_order:
            order = self._orders(split, number, start, batch.num_rows)
            columns = [*columns, pa.array(order)]
        if not columns:
            return batch.select([])
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)

    def _orders(self, split: Split, number: int, start: int, n_rows: int) -> np.ndarray:
        try:
            return orders_of_rows(self._spec.ordinal, number, start, n_rows)
        except ConnectorError as error:
            raise ConnectorError(f"{split.id}: {error}") from None

    def _times(self, batch: pa.RecordBatch, split: Split, start: int) -> pa.Array:
        time = self._spec.time
        assert time is not None
        assert time.column is not None, "a source takes event time from a column"
        column = batch.column(time.column)
        if column.null_count:
            row = start + int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
            raise ConnectorError(
                f"{split.id}: event time {time.column!r} is null in row {row} of the split (rows "
                "counted after filters that were pushed into the scan); read without event_time=, "
                f"filter such rows out with .filter(col({time.column!r}).is_not_null()), and take "
                f"event time after that with .with_event_time({time.column!r}); straight after "
                "read_parquet, read_ipc, read_csv or read_json the filter alone is enough"
            )
        if column.type == pa.int64():
            return column
        values = event_time_values(column, time.column)
        return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(values)])


MAX_BATCH_ROWS = 131_072
"""Rows that operators get at once: their kernels run between two looks at MPI."""


_MOST_IN_VAIN = 128  # looks without a row in one round, of which one finds that a split has ended
_MOST_EMPTY = 1000  # chunks in a row
_GREATEST_DESCRIPTOR = 2**31 - 1


@dataclass(slots=True)
class SplitProgress:
    """How far one split has been read.

    Attributes
    ----------
    number : int
        Of the split in its source.
    rows : int
        Rows scanned: the number of the next row, for order and messages.
    position : JSON
        Where its reader said to go on; None: at row number `rows`.
    greatest : int
        The greatest event time in a live split.
    """

    number: int
    split: Split
    rows: int = 0
    position: JSON = None
    done: bool = False
    greatest: int = MIN_TIME

    @property
    def rows_left(self) -> int | None:
        """Rows that are not read; None if their number is not known."""
        n_rows = self.split.n_rows
        return None if n_rows is None else max(0, n_rows - self.rows)

    @property
    def resume_at(self) -> JSON:
        """What `Source.open` takes; None: the beginning."""
        return self.position if self.position is not None else self.rows or None

    def opened(self, source: Source) -> SplitReader:
        """Return a reader that goes on here."""
        at: Any = self.resume_at
        at = () if at is None else (at,)
        return as_reader(source.open(self.split, *at))

    def advance(self, chunk: Chunk) -> int:
        """Go on behind a chunk; return the number of its first row."""
        first = self.rows
        self.rows += chunk.scanned
        if chunk.position is not None:
            self.position = chunk.position
        elif self.position is not None and chunk.scanned:
            raise ConnectorError(
                f"{self.split.id}: a chunk with rows, after position {self.position!r}, has no "
                "position; a reader that gives positions gives one with every chunk of rows"
            )
        return first

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object. Raises `ConnectorError` if its position is none."""
        return {
            "number": self.number,
            "split": self.split.to_json(),
            "rows": self.rows,
            "position": self._checked_position(),
            "done": self.done,
            "greatest": self.greatest,
        }

    def _checked_position(self) -> JSON:
        if type(self.position) not in (type(None), int, str):
            try:
                json.dumps(self.position)
            except (TypeError, ValueError) as error:
                raise ConnectorError(
                    f"{self.split.id}: position {self.position!r} cannot be stored: {error}; a "
                    "position is JSON: numbers, text, lists, dicts with text as keys"
                ) from error
        return self.position

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SplitProgress:
        """Return what `to_json` wrote."""
        return cls(**{**value, "split": Split.from_json(value["split"])})


class SeenTimes:
    """The least time of the first rows of a source on this rank, and the greatest of all.

    Enough to ask whether the unit is right, for one look at the rows that are looked at anyway.
    """

    def __init__(self) -> None:
        self.first: int | None = None
        self.greatest = MIN_TIME

    def see(self, times: np.ndarray) -> int:
        """Take in the times of a batch, which has rows; return the greatest of them."""
        greatest = int(times.max())
        if self.first is None:
            self.first = int(times.min())
        self.greatest = max(self.greatest, greatest)
        return greatest


class BoundedReader:
    """Reads the rank's splits of a bounded source, one after the other.

    Parameters
    ----------
    spec : SourceSpec
    splits : list of SplitProgress
        This rank's, in reading order.
    """

    def __init__(self, spec: SourceSpec, splits: Sequence[SplitProgress]) -> None:
        self._spec = spec
        self._stamper = RowStamper(spec)
        self._row_bytes = fixed_row_bytes(spec.schema)
        self.progress = list(splits)
        self._current = 0
        self._texts: list[str] = []  # of the splits, as JSON
        self._n_settled = 0  # of which these change no more
        self._reader: SplitReader | None = None
        self._n_empty = 0  # chunks without a row since the last one with some
        self._watermark = BoundedWatermark(
            [one.split.first_time for one in splits], spec.watermark_delay
        )
        self.rows_scanned = 0
        self.times = SeenTimes()

    def progress_as_json(self) -> JsonText:
        """Return the progress of all splits, `SplitProgress.to_json` each.

        A source may have ten thousand: those that are not begun, or done, are not written again.
        """
        if not self._texts:
            self._texts = [json.dumps(one.to_json()) for one in self.progress]
        for number in range(self._n_settled, min(self._current + 1, len(self.progress))):
            self._texts[number] = json.dumps(self.progress[number].to_json())
        self._n_settled = self._current
        return JsonText(f"[{', '.join(self._texts)}]")

    def snapshot(self) -> dict[str, Any]:
        """Return what `restore` takes besides the progress of the splits."""
        return {"current": self._current, "watermark": self._watermark.snapshot()}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go on at the place of a snapshot; the splits given must be those it was taken of."""
        self._current = snapshot["current"]
        self._watermark.restore(snapshot["watermark"])

    @property
    def source(self) -> Source:
        """What is read."""
        return self._spec.source

    @property
    def ended(self) -> bool:
        """Whether every split is exhausted."""
        return self._current == len(self.progress)

    @property
    def watermark(self) -> int:
        """No row before this will come."""
        return MAX_TIME if self.ended else self._watermark.watermark

    @property
    def mark(self) -> int:
        """What the splits promise: never that they are idle, which is a matter of the clock."""
        return self.watermark

    @property
    def is_idle(self) -> bool:
        """A bounded source is never idle by the clock."""
        return False

    @property
    def slowest_split(self) -> str | None:
        """The split that holds the watermark back: the one being read."""
        return None if self.ended else self.progress[self._current].split.id

    def read_round(self, max_rows: int, max_bytes: int = 1 << 62) -> Iterator[pa.RecordBatch]:
        """Yield the batches of one round: ``max_rows`` rows scanned and more, or so many bytes.

        Up to half as many more, so that what a split has is not cut where the round ends:
        all rounds after that would begin with what is left. Fewer only at the end, and after
        many splits without rows, which take time, too. It depends on nothing but what is read.
        """
        rows_left, bytes_left, in_vain = max_rows, max_bytes, 0
        while rows_left > 0 and bytes_left > 0 and in_vain < _MOST_IN_VAIN and not self.ended:
            wanted = max(rows_left, max_rows // 2)
            batch, scanned = self._read(min(wanted, MAX_BATCH_ROWS))
            rows_left -= scanned
            in_vain = 0 if scanned else in_vain + 1
            if batch is not None and batch.num_rows:
                bytes_left -= self._bytes_of(batch)
                yield batch

    def _bytes_of(self, batch: pa.RecordBatch) -> int:
        """Return the bytes of a batch's values; Arrow takes 25 µs to find them out."""
        if self._row_bytes is None:
            return int(batch.nbytes)
        return math.ceil(self._row_bytes * int(batch.num_rows))

    def _read(self, max_rows: int) -> tuple[pa.RecordBatch | None, int]:
        progress = self.progress[self._current]
        if self._reader is None:
            self._reader = progress.opened(self._spec.source)
        chunk = self._reader.read(max_rows)
        if chunk is None:
            self._close_split()
            return None, 0
        self._n_empty = 0 if chunk.scanned else self._n_empty + 1
        if self._n_empty > _MOST_EMPTY:
            raise ConnectorError(
                f"{progress.split.id}: {_MOST_EMPTY:,} chunks in a row without a row, at row "
                f"{progress.rows:,}; the reader of a bounded source returns None at its end"
            )
        self.rows_scanned += chunk.scanned
        start = progress.advance(chunk)
        if not chunk.batch.num_rows:
            return None, chunk.scanned
        batch = self._stamper.stamp(chunk.batch, progress.split, progress.number, start)
        if self._spec.time is not None:
            self._watermark.see(self.times.see(_times_of(batch)))
        return batch, chunk.scanned

    def _close_split(self) -> None:
        assert self._reader is not None
        self._reader.close()
        self._reader, self._n_empty = None, 0
        self.progress[self._current].done = True
        self._current += 1
        self._watermark.next_split()

    def close(self) -> None:
        """Release what is open."""
        if self._reader is not None:
            self._reader.close()


@dataclass(slots=True)
class _LiveSplit:
    progress: SplitProgress
    reader: SplitReader | None
    watermark: SplitWatermark
    last_rows_s: float
    ended: bool = False
    idle: bool = False

    @property
    def mark(self) -> int | None:
        """What it promises: nothing if it is idle."""
        if self.ended:
            return MAX_TIME
        return None if self.idle else self.watermark.watermark


LiveMark = tuple[int, list[tuple[int, JSON, bool, int]]]
"""Rows scanned of a source; for each split its rows, position, end and greatest time."""


class LiveReader:
    """Polls the rank's splits of a live source in turn.

    A poll goes on where the one before it ran out of room, so that a split that always
    has rows does not starve the others. A split that was asked, and had no rows for
    ``idle_timeout_s``, stops holding time back until it has rows again; one that was
    not asked is not idle.

    Attributes
    ----------
    is_open : bool
        Whether splits may still be added; a rank that has none meanwhile is idle.
    """

    def __init__(self, spec: SourceSpec, splits: Sequence[SplitProgress], now_s: float) -> None:
        self._spec = spec
        self._stamper = RowStamper(spec)
        self.rows_scanned = 0
        self.times = SeenTimes()
        self._next = 0
        self._splits = [self._opened(progress, now_s) for progress in splits]
        self.is_open = spec.source.discovers

    def _opened(self, progress: SplitProgress, now_s: float) -> _LiveSplit:
        watermark = SplitWatermark(self._spec.watermark_delay)
        watermark.see(progress.greatest)
        reader = None
        if not progress.done:
            reader = progress.opened(self._spec.source)
        return _LiveSplit(progress, reader, watermark, now_s, progress.done)

    @property
    def source(self) -> Source:
        """What is read."""
        return self._spec.source

    def add(self, progress: SplitProgress, now_s: float) -> None:
        """Read one more split, which appeared while the job runs."""
        self._splits.append(self._opened(progress, now_s))

    def retire(self, ids: Container[str]) -> None:
        """Forget splits, which have ended."""
        self._splits = [
            live for live in self._splits if not (live.ended and live.progress.split.id in ids)
        ]
        self._next = 0

    def snapshot(self) -> LiveMark:
        """Return the rows scanned, and for each split how far it was read."""
        return self.rows_scanned, [
            (one.rows, one.position, live.ended, live.watermark.snapshot())
            for live in self._splits
            for one in (live.progress,)
        ]

    @property
    def progress(self) -> list[SplitProgress]:
        """How far each split has been read."""
        return [live.progress for live in self._splits]

    @property
    def ended(self) -> bool:
        """Whether every split has ended, and there will be no others."""
        return not self.is_open and all(live.ended for live in self._splits)

    def _active(self) -> list[_LiveSplit]:
        return [live for live in self._splits if not live.ended and not live.idle]

    @property
    def mark(self) -> int | None:
        """What the splits promise together; it goes back when one wakes that is behind."""
        mark = least_mark([live.mark for live in self._splits])
        return None if mark == MAX_TIME and self.is_open else mark

    @property
    def is_idle(self) -> bool:
        """Whether no split holds time back, though not all have ended."""
        return self.mark is None

    @property
    def slowest_split(self) -> str | None:
        """The active split with the least watermark."""
        active = self._active()
        if not active:
            return None
        return min(active, key=lambda live: live.watermark.watermark).progress.split.id

    def poll(self, max_rows: int, now_s: float) -> Iterator[pa.RecordBatch]:
        """Yield what the splits have now, ``max_rows`` rows in all at most."""
        left, n_splits = max_rows, len(self._splits)
        first = self._next
        for turn in range(n_splits):
            if left <= 0:
                break
            live = self._splits[(first + turn) % n_splits]
            self._next = (first + turn + 1) % n_splits
            if live.ended:
                continue
            batch, scanned = self._read(live, left, now_s)
            left -= scanned
            if batch is not None:
                yield batch

    def _read(
        self, live: _LiveSplit, max_rows: int, now_s: float
    ) -> tuple[pa.RecordBatch | None, int]:
        assert live.reader is not None
        chunk = live.reader.read(max_rows)
        if chunk is None:
            live.ended = live.progress.done = True
            live.reader.close()
            return None, 0
        start = live.progress.advance(chunk)
        if chunk.scanned == 0:
            timeout_s = self._spec.idle_timeout_s
            live.idle = timeout_s is not None and now_s - live.last_rows_s >= timeout_s
            return None, 0
        self.rows_scanned += chunk.scanned
        live.last_rows_s, live.idle = now_s, False
        if not chunk.batch.num_rows:
            return None, chunk.scanned
        return self._stamped(live, chunk.batch, start), chunk.scanned

    def _stamped(self, live: _LiveSplit, batch: pa.RecordBatch, start: int) -> pa.RecordBatch:
        progress = live.progress
        stamped = self._stamper.stamp(batch, progress.split, progress.number, start)
        if self._spec.time is not None:
            live.watermark.see(self.times.see(_times_of(stamped)))
        return stamped

    @property
    def idle_from_s(self) -> float:
        """When the next active split falls idle if it gets no rows.

        Each is to be asked then: if two fell idle in one look, what the second promised
        after the first would never be told.
        """
        timeout_s = self._spec.idle_timeout_s
        if timeout_s is None:
            return math.inf
        return min((live.last_rows_s + timeout_s for live in self._active()), default=math.inf)

    @property
    def n_asked(self) -> int:
        """Number of splits that have not ended."""
        return sum(not live.ended for live in self._splits)

    @property
    def descriptors(self) -> list[int]:
        """File descriptors that can be read when splits have rows."""
        found = (_descriptor(live) for live in self._splits if not live.ended)
        return [number for number in found if number is not None]

    @property
    def wakes(self) -> bool:
        """Whether each split that goes on has a descriptor: then none needs to be asked."""
        return all(live.ended or _descriptor(live) is not None for live in self._splits)

    def close(self) -> None:
        """Release what is open."""
        for live in self._splits:
            if not live.ended and live.reader is not None:
                live.reader.close()


def _descriptor(live: _LiveSplit) -> int | None:
    number = None if live.reader is None else live.reader.wake_descriptor()
    if number is None or (isinstance(number, int) and number < 0):  # as of a closed socket
        return None
    if not isinstance(number, int) or number > _GREATEST_DESCRIPTOR:
        raise ConnectorError(
            f"{live.progress.split.id}: wake_descriptor() returned {number!r}; it returns the "
            "number of a file descriptor, as fileno() does, or None"
        )
    return number


def _times_of(batch: pa.RecordBatch) -> np.ndarray:
    column = batch.column(TIME_COLUMN)
    values = np.frombuffer(column.buffers()[1], dtype=np.int64, count=len(column) + column.offset)
    return values[column.offset :]
