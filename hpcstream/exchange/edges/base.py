"""Edges: what carries numbered rounds from one task to the next.

Every edge, local or over ranks, speaks the same words:

* the producer asks `may_start`, then for each round `send`s batches and
  `close`s the round, perhaps empty;
* the consumer asks `has_round`, and `take`s rounds in order.

`send` and `close` are generators that yield while the edge has no room.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from hpcstream.columns.event_time import MIN_TIME
from hpcstream.metric import BYTES, Counter


@dataclass(slots=True)
class RoundInput:
    """One round of one edge, as its consumer gets it.

    Attributes
    ----------
    batches : list of pyarrow.RecordBatch
        In order of sending rank, then of position.
    watermark : int or None
        Mark of the senders together (`hpcstream.columns.event_time.least_mark`).
    busy : bool
        Whether any source behind the edge had rows in this round.
    """

    batches: list[pa.RecordBatch] = field(default_factory=list)
    watermark: int | None = None
    busy: bool = False


@dataclass(frozen=True, slots=True)
class RoundEnd:
    """What a producer says when it closes a round.

    Attributes
    ----------
    watermark : int
        No row before it will come; `MAX_TIME`: none at all. May be less than in the round
        before, if a part of the producer's input was idle and has woken.
    idle : bool
        Its input is idle: whatever the watermark, nobody waits for it.
    busy, abort : bool
    """

    watermark: int
    idle: bool = False
    busy: bool = False
    abort: bool = False

    @classmethod
    def of(cls, mark: int | None, *, busy: bool) -> RoundEnd:
        """Return the end of a round of a producer that has this mark."""
        return cls(MIN_TIME if mark is None else mark, idle=mark is None, busy=busy)

    @property
    def mark(self) -> int | None:
        """What the producer promises, as `hpcstream.columns.event_time.least_mark` takes it."""
        return None if self.idle else self.watermark


class Edge(Protocol):
    """The words above; `progress` moves messages and says whether anything moved."""

    @property
    def name(self) -> str:
        """For messages and metrics."""

    @property
    def bytes_sent(self) -> int:
        """Bytes that this rank gave to the edge."""

    @property
    def busy_round(self) -> int:
        """Last round in which a source behind the edge had rows; -1 before."""

    def may_start(self, round_number: int) -> bool:
        """Return whether the producer may open this round."""

    def send(self, batch: pa.RecordBatch) -> Iterator[None]:
        """Add a batch to the open round; yield while there is no room."""

    def close(self, round_number: int, end: RoundEnd) -> Iterator[None]:
        """Close the open round; yield while there is no room."""

    def note_blocked(self, round_number: int) -> None:
        """Note that the round is begun here, but waits on another edge."""

    def finish(self, end_round: int) -> None:
        """Say that ``end_round - 1`` was the last round."""

    def reached_by(self, round_number: int) -> int | None:
        """Return the greatest mark that all producers had together in any round so far.

        None as long as not all of them have closed ``round_number``, or this rank does not
        know that they have. In rounds after that one, time may have gone on.
        """

    def has_round(self, round_number: int) -> bool:
        """Return whether all of this round is here."""

    def take(self, round_number: int) -> RoundInput:
        """Return the next round, and make room for another."""

    def progress(self) -> bool:
        """Move messages; return whether anything moved."""

    def free(self) -> None:
        """Give the communicators back, after the end. Collective over the edge's ranks."""

    def snapshot(self) -> float | None:
        """Return the measured bytes of a row, if they decide what is sent when."""

    def restore(self, row_bytes: float, first_round: int) -> None:
        """Go on as the edge that a snapshot was taken of; call before the first round."""

    @property
    def behind(self) -> list[int]:
        """Producers, by their numbers on the edge, whose next step it waits for, if it knows."""

    @property
    def finished(self) -> bool:
        """Whether nothing is under way, nor will be, on any rank."""

    @property
    def abort_seen(self) -> bool:
        """Whether another rank said that it, or one it heard of, has failed."""


class LocalEdge:
    """An edge within one rank: a queue of at most ``capacity`` rounds."""

    bytes_sent = Counter("sent", unit=BYTES)
    abort_seen = False

    def __init__(self, name: str, capacity: int) -> None:
        self.name = name
        self._capacity = capacity
        self._closed: deque[RoundInput] = deque()
        self._open: list[pa.RecordBatch] = []
        self._taken = 0
        self._complete = -1
        self._reached = MIN_TIME
        self.busy_round = -1
        self._finished = False

    def may_start(self, round_number: int) -> bool:
        return round_number - self._taken < self._capacity

    def send(self, batch: pa.RecordBatch) -> Iterator[None]:
        self._open.append(batch)
        return iter(())

    def close(self, round_number: int, end: RoundEnd) -> Iterator[None]:
        mark = end.mark
        self._closed.append(RoundInput(self._open, mark, end.busy))
        self._open = []
        self._complete = round_number
        if mark is not None:
            self._reached = max(self._reached, mark)
        if end.busy:
            self.busy_round = round_number
        self.abort_seen = self.abort_seen or end.abort
        return iter(())

    def note_blocked(self, round_number: int) -> None:
        """Nobody waits for the producer of a local edge to post anything."""

    def finish(self, end_round: int) -> None:
        self._finished = True

    def reached_by(self, round_number: int) -> int | None:
        return self._reached if self._complete >= round_number else None

    def has_round(self, round_number: int) -> bool:
        return bool(self._closed)

    def take(self, round_number: int) -> RoundInput:
        assert round_number == self._taken, f"{self.name}: rounds are taken in order"
        self._taken += 1
        return self._closed.popleft()

    def progress(self) -> bool:
        return False

    def free(self) -> None:
        """Nothing is held."""

    def snapshot(self) -> None:
        """Return nothing: no bytes are sent."""

    def restore(self, row_bytes: float, first_round: int) -> None:
        """Nothing depends on the bytes of a row."""

    @property
    def behind(self) -> list[int]:
        return []

    @property
    def finished(self) -> bool:
        return self._finished
