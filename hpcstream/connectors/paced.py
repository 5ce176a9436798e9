"""Rows given out on a schedule: lanes of a live generated stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from hpcstream.connectors.base import Chunk
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
    """Blocks ``number``, ``number + n_lanes``, ... of a stream."""

    number: int
    n_lanes: int
    block_rows: int
    n_rows: int | None

    def row(self, position: int) -> int:
        """Return the stream's number of the lane's row number ``position``."""
        turn, within = divmod(position, self.block_rows)
        return (turn * self.n_lanes + self.number) * self.block_rows + within

    def block(self, row: int) -> tuple[int, int]:
        """Return first row and length of the block that holds ``row``; no length past the end."""
        start = row - row % self.block_rows
        if self.n_rows is None:
            return start, self.block_rows
        return start, min(self.block_rows, max(0, self.n_rows - start))


class LaneReader:
    """`SplitReader` that gives out the rows of one lane as they fall due."""

    def __init__(
        self,
        make_block: Callable[[int, int], pa.RecordBatch],
        schema: pa.Schema,
        lane: Lane,
        schedule: Schedule,
        position: int,
    ) -> None:
        self._make_block = make_block
        self._nothing = Chunk(empty_batch(schema), 0)
        self._lane = lane
        self._schedule = schedule
        self._made: tuple[int, pa.RecordBatch] | None = None
        self._next = lane.row(position)
        self.position = position
        turn = position // lane.block_rows * lane.block_rows
        schedule.begin(turn * lane.n_lanes)

    def read(self, max_rows: int) -> Chunk | None:
        """Return rows that are due, of one block at a time."""
        row = self._next
        due = self._schedule.n_due()
        if due <= row and (self._lane.n_rows is None or row < self._lane.n_rows):
            return self._nothing
        start, length = self._lane.block(row)
        if row >= start + length:
            return None
        batch = self._block(start, length)
        n_rows = min(max_rows, due - row, start + length - row)
        self.position += n_rows
        self._next = self._lane.row(self.position)
        return Chunk(batch.slice(row - start, n_rows), n_rows)

    def close(self) -> None:
        """Let go of the current block."""
        self._made = None

    def _block(self, start: int, length: int) -> pa.RecordBatch:
        if self._made is None or self._made[0] != start:
            self._made = start, self._make_block(start, length)
        return self._made[1]
