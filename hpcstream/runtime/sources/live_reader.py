"""Polls the splits of a live source; the clock closes its rounds (`pacing`)."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from hpcstream.columns.event_time import MAX_TIME, least_mark
from hpcstream.connectors.base import JSON, Source, SplitReader
from hpcstream.errors import ConnectorError
from hpcstream.runtime.sources.split_progress import SplitProgress
from hpcstream.runtime.sources.stamping import RowStamper, SeenTimes, SourceSpec, times_of
from hpcstream.runtime.watermark import SplitWatermark

_GREATEST_DESCRIPTOR = 2**31 - 1


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
        """The mark of the split; None if it is idle."""
        if self.ended:
            return MAX_TIME
        return None if self.idle else self.watermark.watermark

    def note_rows(self, scanned: int, now_s: float, idle_timeout_s: float | None) -> None:
        """Note the rows of a poll: a split without any for the timeout is idle."""
        if scanned:
            self.last_rows_s, self.idle = now_s, False
        else:
            no_rows_s = now_s - self.last_rows_s
            self.idle = idle_timeout_s is not None and no_rows_s >= idle_timeout_s

    def end(self) -> None:
        """Close the reader of a split that has no more rows."""
        assert self.reader is not None
        self.ended = True
        self.progress.end()
        self.reader.close()


LiveMark = tuple[int, list[tuple[int, JSON, bool, int]]]
"""Rows scanned of a source; for each split its rows, position, end and greatest time."""


class LiveReader:
    """Polls the rank's splits of a live source in turn.

    A poll continues where the one before it ran out of room, so that a split that always
    has rows does not starve the others. A split that was polled, and had no rows for
    ``idle_timeout_s``, does not hold time back until it has rows again; a split that was
    not polled is not idle.

    Attributes
    ----------
    is_open : bool
        Whether splits may still be added; a rank without any is idle meanwhile.
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

    def count_from(self, rows: int) -> None:
        """Count on from the rows that were scanned before a restart."""
        self.rows_scanned = rows

    def add(self, progress: SplitProgress, now_s: float) -> None:
        """Read one more split, which appeared while the job runs."""
        self._splits.append(self._opened(progress, now_s))

    def close_source(self) -> None:
        """Expect no further splits."""
        self.is_open = False

    def retire(self, ids: Container[str]) -> None:
        """Forget these splits if they have ended."""
        self._splits = [
            live for live in self._splits if not (live.ended and live.progress.split.id in ids)
        ]
        self._next = 0

    def snapshot(self) -> LiveMark:
        """Return the rows scanned, and for each split how far it was read."""
        return self.rows_scanned, [
            (live.progress.rows, live.progress.position, live.ended, live.watermark.snapshot())
            for live in self._splits
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
        """The mark of all splits; it decreases when a split wakes that is behind."""
        mark = least_mark([live.mark for live in self._splits])
        return None if mark == MAX_TIME and self.is_open else mark

    @property
    def is_idle(self) -> bool:
        """Whether no split holds time back although not all have ended."""
        return self.mark is None

    @property
    def slowest_split(self) -> str | None:
        """The active split with the least watermark."""
        active = self._active()
        if not active:
            return None
        return min(active, key=lambda live: live.watermark.watermark).progress.split.id

    def poll(self, max_rows: int, now_s: float) -> Iterator[pa.RecordBatch]:
        """Yield the rows that splits have now, at most ``max_rows`` in all."""
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
            live.end()
            return None, 0
        start = live.progress.advance(chunk)
        live.note_rows(chunk.scanned, now_s, self._spec.idle_timeout_s)
        if chunk.scanned == 0:
            return None, 0
        self.rows_scanned += chunk.scanned
        if not chunk.batch.num_rows:
            return None, chunk.scanned
        return self._stamped(live, chunk.batch, start), chunk.scanned

    def _stamped(self, live: _LiveSplit, batch: pa.RecordBatch, start: int) -> pa.RecordBatch:
        progress = live.progress
        stamped = self._stamper.stamp(batch, progress.split, progress.number, start)
        if self._spec.time is not None:
            live.watermark.see(self.times.see(times_of(stamped)))
        return stamped

    @property
    def idle_from_s(self) -> float:
        """When the next active split becomes idle if it gets no rows.

        It must be polled then: if two became idle in one poll, the mark of the second alone
        would never be sent.
        """
        timeout_s = self._spec.idle_timeout_s
        if timeout_s is None:
            return math.inf
        return min((live.last_rows_s + timeout_s for live in self._active()), default=math.inf)

    @property
    def n_unfinished(self) -> int:
        """Number of splits that have not ended."""
        return sum(not live.ended for live in self._splits)

    @property
    def descriptors(self) -> list[int]:
        """File descriptors that can be read when splits have rows."""
        found = (_descriptor(live) for live in self._splits if not live.ended)
        return [number for number in found if number is not None]

    @property
    def wakes(self) -> bool:
        """Whether each unfinished split has a descriptor: then none needs to be polled."""
        return all(live.ended or _descriptor(live) is not None for live in self._splits)

    def close(self) -> None:
        """Close the open readers."""
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
