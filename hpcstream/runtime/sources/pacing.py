"""Decides when a live source closes a round.

All ranks follow the busiest: while any rank had rows in one of the last rounds,
every rank closes a round each ``linger``. When all were empty the rounds stretch,
the more the longer the pause, and a rank that then gets rows wakes the others.
A busy source is polled in each turn of the loop, and ever more rarely in a pause: the
end of a pause is noticed with a delay of at most a twentieth of its length, and of at most
`MOST_BETWEEN_LOOKS_S` a split.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator

import pyarrow as pa

from hpcstream.runtime.sources.live_reader import LiveReader
from hpcstream.runtime.sources.split_progress import SplitProgress

STRETCHED_S = 0.020
"""Time between rounds when a pause begins."""
MOST_STRETCHED_S = 0.500
"""Time between rounds in a long pause: the most that a watermark or a checkpoint is delayed."""
BUSY_ROUNDS = 8
MOST_BETWEEN_LOOKS_S = 0.020
"""Longest time between two polls of a split without a descriptor."""
MOST_SPLITS = 3
"""Splits that get so much time each: more of them are polled more often together."""
_ROUNDS_SHARE = 0.1  # of a pause lies between two rounds
_LOOKS_SHARE = 0.05  # of a pause lies between two polls


class RoundCloser:
    """Decides when a round is due. No clock, no I/O.

    Parameters
    ----------
    batch_rows : int
        A round with so many rows is due at once.
    linger_s : float
        Time between rounds while any rank has rows.
    """

    def __init__(self, batch_rows: int, linger_s: float) -> None:
        self._batch_rows = batch_rows
        self._linger_s = linger_s
        self._closed_s = float("-inf")
        self._busy_s = float("inf")  # when the last round was closed that some rank had rows for
        self._busy_until = BUSY_ROUNDS
        self._awake_until = 0
        self._round = 0
        self._most_stretched_s = MOST_STRETCHED_S

    def busy_in(self, round_number: int) -> None:
        """Note that some rank had rows in this round."""
        self._busy_until = max(self._busy_until, round_number + BUSY_ROUNDS)

    def wake(self) -> None:
        """End a pause: the next round is due."""
        self._closed_s = float("-inf")
        self._awake_until = self._round + BUSY_ROUNDS

    @property
    def is_stretched(self) -> bool:
        """Whether all ranks were empty for the last rounds."""
        return self._round > self.awake_until

    @property
    def awake_until(self) -> int:
        """The first round after which rounds stretch."""
        return max(self._busy_until, self._awake_until)

    def stay_awake(self, until: int) -> None:
        """Stay awake as long as another source of this rank: its rounds are rounds of both."""
        if until <= self.awake_until:
            return
        was_stretched, self._awake_until = self.is_stretched, until
        if was_stretched and not self.is_stretched:
            self._closed_s = float("-inf")

    def due_s(self) -> float:
        """Return when the next round is due if no rows come."""
        return self._closed_s + (self._stretched_s() if self.is_stretched else self._linger_s)

    def _stretched_s(self) -> float:
        pause_s = self._closed_s - self._busy_s
        return min(max(_ROUNDS_SHARE * pause_s, STRETCHED_S), self._most_stretched_s)

    def agree_after(self, n_rounds: int, within_s: float = MOST_STRETCHED_S) -> None:
        """Note after how many rounds the ranks agree again.

        Stretched, all these rounds take at most ``within_s`` together, so that a request is
        answered as soon.
        """
        self._most_stretched_s = within_s / max(n_rounds, 1)

    def look_after_s(self, now_s: float, n_splits: int) -> float:
        """Return how long to wait before the next poll of a source without rows."""
        if not self.is_stretched:
            return 0.0
        most_s = MOST_BETWEEN_LOOKS_S * min(n_splits, MOST_SPLITS)
        return min(max(_LOOKS_SHARE * (now_s - self._busy_s), 0.0), most_s)

    def is_due(self, rows: int, now_s: float) -> bool:
        """Return whether a round of ``rows`` rows is to be closed now."""
        if rows >= self._batch_rows or now_s >= self.due_s():
            return True
        return rows > 0 and now_s >= self._closed_s + self._linger_s

    def closed(self, round_number: int, now_s: float) -> None:
        """Note that a round was closed."""
        self._round = round_number + 1
        self._closed_s = now_s
        if self._round <= self._busy_until:
            self._busy_s = now_s


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
    was_busy : bool
        Whether rows were read for the last round, even if the source's filter removed all of
        them: such a source is not polled more rarely.
    mark : list
        Where the reader was when the last round was closed: rows read since are
        not in any round yet.
    descriptors : list of int
        In a pause, descriptors that can be read when the source has rows, as of the last poll:
        the reader's code, which may fail, is not called at other times.
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
        self._look_s = float("-inf")
        self.was_full = self.was_busy = False
        self._scanned = reader.rows_scanned  # when the last round was closed
        self.descriptors: list[int] = []
        self._wakes = False
        self.mark = reader.snapshot()
        self._sent_mark = self._reader.mark

    def restart(self) -> None:
        """Begin where the reader is after a restart."""
        self.mark = self._reader.snapshot()

    def look_in_a_pause(self) -> None:
        """Poll the source if it is time, also while no round may begin."""
        now_s = self._clock()
        if now_s >= self._look_s:
            self._look(now_s)

    def may_open(self) -> bool:
        """Poll the source; return whether a round is due."""
        now_s = self._clock()
        if now_s >= self._look_s or not self.closer.is_stretched:
            self._look(now_s)
        return self._reader.ended or self.closer.is_due(self._rows, now_s)

    def _look(self, now_s: float) -> None:
        for batch in self._reader.poll(self._batch_rows - self._rows, now_s):
            self._pending.append(batch)
            self._rows += batch.num_rows
        if self.closer.is_stretched and (self._has_read or self._reader.mark != self._sent_mark):
            self._wake_others()
            self.closer.wake()
        if not self.closer.is_stretched:  # asked in each turn
            self._look_s, self._wakes, self.descriptors = float("-inf"), False, []
            return
        look_s = now_s + self.closer.look_after_s(now_s, self._reader.n_unfinished)
        self._look_s = min(look_s, self._reader.idle_from_s)
        self.descriptors, self._wakes = self._reader.descriptors, self._reader.wakes

    @property
    def _has_read(self) -> bool:
        return self._reader.rows_scanned != self._scanned

    def look_soon(self) -> None:
        """Poll the source in the next turn: something has come."""
        self._look_s = float("-inf")

    def add_split(self, progress: SplitProgress) -> None:
        """Read one more split, of which no round has rows yet."""
        self._reader.add(progress, self._clock())
        rows_scanned, marks = self.mark
        self.mark = rows_scanned, [*marks, self._reader.snapshot()[1][-1]]
        self.look_soon()

    def retire(self, ids: Container[str]) -> None:
        """Forget splits whose end is in a closed round."""
        rows_scanned, marks = self.mark
        pairs = zip(self._reader.progress, marks, strict=True)
        kept = [mark for progress, mark in pairs if not _is_gone(progress, ids)]
        self._reader.retire(ids)
        self.mark = rows_scanned, kept

    def close_source(self) -> None:
        """Expect no further splits."""
        self._reader.close_source()
        self.look_soon()

    @property
    def done_splits(self) -> list[str]:
        """The splits whose end is in a closed round."""
        pairs = zip(self._reader.progress, self.mark[1], strict=True)
        return [progress.split.id for progress, (_, _, ended, _) in pairs if ended]

    @property
    def n_unread(self) -> int:
        """Number of unfinished splits."""
        return self._reader.n_unfinished

    def due_s(self) -> float:
        """Return when there is work to do if no descriptor becomes readable before."""
        if not self.closer.is_stretched:
            return self.closer.due_s()
        look_s = self._reader.idle_from_s if self._wakes else self._look_s
        return min(self.closer.due_s(), look_s)

    def take(self, round_number: int) -> Iterator[pa.RecordBatch]:
        """Yield the gathered rows as one round."""
        pending, self._pending = self._pending, []
        self.mark = self._reader.snapshot()
        self._sent_mark = self._reader.mark
        self.was_busy, self._scanned = self._has_read, self._reader.rows_scanned
        if self.was_busy:
            self.closer.busy_in(round_number)
        self.was_full = self._rows >= self._batch_rows
        self._rows = 0
        self.closer.closed(round_number, self._clock())
        yield from pending


def _is_gone(progress: SplitProgress, ids: Container[str]) -> bool:
    return progress.done and progress.split.id in ids
