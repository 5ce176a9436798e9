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


@dataclass(slots=True)
class RoundInput:
    """One round of one edge, as its consumer gets it.

    Attributes
    ----------
    batches : list of pyarrow.RecordBatch
        In order of sending rank, then of position.
    watermark : int or None
        Least watermark of the senders; None while all of them are idle.
    busy : bool
        Whether any source behind the edge had rows in this round.
    """

    batches: list[pa.RecordBatch] = field(default_factory=list)
    watermark: int | None = None
    busy: bool = False


@dataclass(frozen=True, slots=True)
class RoundEnd:
    """What a producer says when it closes a round."""

    watermark: int
    idle: bool = False
    busy: bool = False
    abort: bool = False


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

    def has_round(self, round_number: int) -> bool:
        """Return whether all of this round is here."""

    def take(self, round_number: int) -> RoundInput:
        """Return the next round, and make room for another."""

    def progress(self) -> bool:
        """Move messages; return whether anything moved."""

    def free(self) -> None:
        """Give the communicators back, after the end. Collective over the edge's ranks."""

    @property
    def finished(self) -> bool:
        """Whether nothing is under way, nor will be, on any rank."""

    @property
    def abort_seen(self) -> bool:
        """Whether another rank said that it, or one it heard of, has failed."""


class LocalEdge:
    """An edge within one rank: a queue of at most ``capacity`` rounds."""

    bytes_sent = 0
    abort_seen = False

    def __init__(self, name: str, capacity: int) -> None:
        self.name = name
        self._capacity = capacity
        self._closed: deque[RoundInput] = deque()
        self._open: list[pa.RecordBatch] = []
        self._taken = 0
        self.busy_round = -1
        self._finished = False

    def may_start(self, round_number: int) -> bool:
        return round_number - self._taken < self._capacity

    def send(self, batch: pa.RecordBatch) -> Iterator[None]:
        self._open.append(batch)
        return iter(())

    def close(self, round_number: int, end: RoundEnd) -> Iterator[None]:
        watermark = None if end.idle else end.watermark
        self._closed.append(RoundInput(self._open, watermark, end.busy))
        self._open = []
        if end.busy:
            self.busy_round = round_number
        self.abort_seen = self.abort_seen or end.abort
        return iter(())

    def note_blocked(self, round_number: int) -> None:
        """Nobody waits for the producer of a local edge to post anything."""

    def finish(self, end_round: int) -> None:
        self._finished = True

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

    @property
    def finished(self) -> bool:
        return self._finished
