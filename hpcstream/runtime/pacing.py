"""When a live source closes a round.

All ranks follow the busiest: while any rank had rows in one of the last rounds,
every rank closes a round each ``linger``; when all were empty the rounds stretch
to tens of milliseconds, and a rank that then gets rows wakes the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa

from hpcstream.runtime.source_reader import LiveReader

STRETCHED_S = 0.020
BUSY_ROUNDS = 8


class RoundCloser:
    """Decides when a round is due. No clock, no I/O.

    Parameters
    ----------
    batch_rows : int
        A round of so many rows is due at once.
    linger_s : float
        Time between rounds while there is anything to do.
    """

    def __init__(self, batch_rows: int, linger_s: float) -> None:
        self._batch_rows = batch_rows
        self._linger_s = linger_s
        self._closed_s = float("-inf")
        self._busy_until = BUSY_ROUNDS
        self._round = 0

    def busy_in(self, round_number: int) -> None:
        """Note that some rank had rows in this round."""
        self._busy_until = max(self._busy_until, round_number + BUSY_ROUNDS)

    def wake(self) -> None:
        """Note that a rank has rows after all were empty: the next round is due."""
        self._closed_s = float("-inf")
        self.busy_in(self._round)

    @property
    def is_stretched(self) -> bool:
        """Whether all ranks were empty for the last rounds."""
        return self._round > self._busy_until

    def due_s(self) -> float:
        """Return when the next round is due if no rows come."""
        return self._closed_s + (STRETCHED_S if self.is_stretched else self._linger_s)

    def is_due(self, rows: int, now_s: float) -> bool:
        """Return whether a round of ``rows`` rows is to be closed now."""
        if rows >= self._batch_rows or now_s >= self.due_s():
            return True
        return rows > 0 and now_s >= self._closed_s + self._linger_s

    def closed(self, round_number: int, now_s: float) -> None:
        """Note that a round was closed."""
        self._round = round_number + 1
        self._closed_s = now_s


class Pacer:
    """Gathers the rows of a live source until `RoundCloser` says that a round is due.

    Parameters
    ----------
    reader : LiveReader
    closer : RoundCloser
    batch_rows : int
    clock : callable
        Seconds, monotonic.
    wake_others : callable
        Called when rows come after all ranks were empty.

    Attributes
    ----------
    was_full : bool
        Whether the last round had as many rows as a round may have.
    mark : list
        What the reader was at when the last round was closed: rows read since are
        not in any round yet.
    """

    def __init__(
        self,
        reader: LiveReader,
        closer: RoundCloser,
        batch_rows: int,
        clock: Callable[[], float],
        wake_others: Callable[[], None],
    ) -> None:
        self._reader = reader
        self.closer = closer
        self._batch_rows = batch_rows
        self._clock = clock
        self._wake_others = wake_others
        self._pending: list[pa.RecordBatch] = []
        self._rows = 0
        self.was_full = False
        self.mark = reader.snapshot()

    def may_open(self) -> bool:
        """Poll the source; return whether a round is due."""
        now_s = self._clock()
        for batch in self._reader.poll(self._batch_rows - self._rows, now_s):
            self._pending.append(batch)
            self._rows += batch.num_rows
        if self._rows and self.closer.is_stretched:
            self._wake_others()
            self.closer.wake()
        return self._reader.ended or self.closer.is_due(self._rows, now_s)

    def take(self, round_number: int) -> Iterator[pa.RecordBatch]:
        """Yield the gathered rows as one round."""
        pending, self._pending = self._pending, []
        self.mark = self._reader.snapshot()
        if self._rows:
            self.closer.busy_in(round_number)
        self.was_full = self._rows >= self._batch_rows
        self._rows = 0
        self.closer.closed(round_number, self._clock())
        yield from pending
