"""Rows delivered on a schedule: the lanes of a live generated stream.

Lane ``k`` of ``n`` has rows ``k``, ``k + n``, ``k + 2n``, ...: the lanes keep pace row by
row, so that none holds event time back for longer than ``n`` rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from hpcstream.connectors.base import Chunk, SplitReader
from hpcstream.connectors.scan import empty_batch


class Schedule:
    """When rows are due: row ``i`` at ``start + (i + 1) / rate``; shared by a rank's lanes."""

    def __init__(self, rate: float, start: float | None, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._start = start
        self._clock = clock

    def begin(self, row: int) -> None:
        """Start the clock, unless it runs, so that ``row`` is the next due."""
        if self._start is None:
            self._start = self._clock() - row / self._rate

    def n_due(self) -> int:
        """Return how many rows of the stream are due by now."""
        assert self._start is not None, "a lane begins the schedule"
        return int((self._clock() - self._start) * self._rate)


@dataclass(frozen=True)
class Lane:
    """Rows ``number``, ``number + n_lanes``, ... of a stream, made ``block_rows`` at a time."""

    number: int
    n_lanes: int
    block_rows: int

    def row(self, position: int) -> int:
        """Return the stream's number of the lane's row number ``position``."""
        return self.number + position * self.n_lanes

    def n_rows(self, stream_rows: int) -> int:
        """Return how many of the first ``stream_rows`` rows of the stream are the lane's."""
        return max(0, (stream_rows - self.number + self.n_lanes - 1) // self.n_lanes)


class LaneReader(SplitReader):
    """Delivers the rows of one lane when they are due.

    Parameters
    ----------
    make : callable
        ``make(lane, position, n_rows)`` returns rows of the lane.
    schema : pa.Schema
        Of what ``make`` returns.
    lane : Lane
    stream_rows : int, optional
        Rows of the whole stream, if it has an end.
    schedule : Schedule
    position : int
        Rows of the lane that were read before.
    """

    def __init__(
        self,
        make: Callable[[Lane, int, int], pa.RecordBatch],
        schema: pa.Schema,
        lane: Lane,
        stream_rows: int | None,
        schedule: Schedule,
        position: int,
    ) -> None:
        self._make = make
        self._nothing = Chunk(empty_batch(schema), 0)
        self._lane = lane
        self._n_rows = None if stream_rows is None else lane.n_rows(stream_rows)
        self._schedule = schedule
        self._block: pa.RecordBatch | None = None
        self._block_start = 0
        self.position = position
        schedule.begin(position * lane.n_lanes)

    def read(self, max_rows: int) -> Chunk | None:
        """Return rows that are due, of one block at a time."""
        position = self.position
        if position == self._n_rows:
            return None
        due = self._lane.n_rows(self._schedule.n_due()) - position
        if self._n_rows is not None:
            due = min(due, self._n_rows - position)
        if due <= 0:
            return self._nothing
        block = self._block_at(position)
        within = position - self._block_start
        batch = block.slice(within, min(due, max_rows))
        self.position += batch.num_rows
        return Chunk(batch, batch.num_rows)

    def close(self) -> None:
        """Release the current block."""
        self._block = None

    def _block_at(self, position: int) -> pa.RecordBatch:
        """Return the block that holds a row; blocks begin at multiples of their length."""
        n_rows = self._lane.block_rows
        start = position - position % n_rows
        if self._block is None or start != self._block_start:
            if self._n_rows is not None:
                n_rows = min(n_rows, self._n_rows - start)
            self._block_start, self._block = start, self._make(self._lane, start, n_rows)
        return self._block
