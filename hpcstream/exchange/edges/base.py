"""Edges carry numbered rounds from one task to the next.

Every edge, local or over ranks, has the same interface:

* the producer checks `may_start`, then for each round calls `send` with batches and
  `close`, also for an empty round;
* the consumer checks `has_round`, and calls `take` for rounds in order.

`send` and `close` are generators that yield while the edge has no room.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from hpcstream.columns.event_time import MIN_TIME
from hpcstream.metric import BYTES, Counter, Gauge


@dataclass(slots=True)
class RoundInput:
    """One round of one edge, as received by its consumer.

    Attributes
    ----------
    batches : list of pyarrow.RecordBatch
        In order of sending rank, then in the order in which they were sent.
    watermark : int or None
        Common mark of the senders (`hpcstream.columns.event_time.least_mark`).
    busy : bool
        Whether any source upstream of the edge had rows in this round.
    """

    batches: list[pa.RecordBatch] = field(default_factory=list)
    watermark: int | None = None
    busy: bool = False


@dataclass(frozen=True, slots=True)
class RoundEnd:
    """State of a producer at the end of a round.

    Attributes
    ----------
    watermark : int
        No row before it will follow; `MAX_TIME`: no row at all. May be less than in the
        previous round if a part of the producer's input was idle and has resumed.
    idle : bool
        The producer's input is idle: consumers ignore its watermark.
    busy : bool
        A source upstream of the producer had rows in this round.
    abort : bool
        The producer, or a rank that it heard of, has failed.
    """

    watermark: int
    idle: bool = False
    busy: bool = False
    abort: bool = False

    @classmethod
    def of(cls, mark: int | None, *, busy: bool) -> RoundEnd:
        """Return the end of a round for a mark."""
        return cls(MIN_TIME if mark is None else mark, idle=mark is None, busy=busy)

    @property
    def mark(self) -> int | None:
        """The mark, as `hpcstream.columns.event_time.least_mark` expects it."""
        return None if self.idle else self.watermark


class Edge(ABC):
    """The base class of edges; the module docstring describes their use.

    The defaults suit an edge without messages.

    Parameters
    ----------
    name : str
        For messages and metrics.

    Attributes
    ----------
    bytes_sent : int
        Bytes that this rank has sent.
    busy_round : int
        Last round in which a source upstream had rows; -1 if there was none.
    abort_seen : bool
        Whether another rank reported a failure.
    """

    bytes_sent: Counter | Gauge

    def __init__(self, name: str) -> None:
        self.name = name
        self.busy_round = -1
        self.abort_seen = False

    @abstractmethod
    def may_start(self, round_number: int) -> bool:
        """Return whether the producer may open this round."""

    @abstractmethod
    def send(self, batch: pa.RecordBatch) -> Iterator[None]:
        """Add a batch to the open round; yield while there is no room."""

    @abstractmethod
    def close(self, round_number: int, end: RoundEnd) -> Iterator[None]:
        """Close the open round; yield while there is no room."""

    def note_blocked(self, round_number: int) -> None:  # noqa: B027  a default
        """Note that this rank has begun the round, but is blocked on another edge.

        By default nothing: no other rank waits for this one before it has closed the round.
        """

    @abstractmethod
    def finish(self, end_round: int) -> None:
        """End the stream: ``end_round - 1`` was the last round."""

    @abstractmethod
    def reached_by(self, round_number: int) -> int | None:
        """Return the greatest common mark of all producers in any round so far.

        None as long as this rank does not know that all of them have closed ``round_number``.
        The mark may be of a later round.
        """

    @abstractmethod
    def has_round(self, round_number: int) -> bool:
        """Return whether the round has arrived completely."""

    @abstractmethod
    def take(self, round_number: int) -> RoundInput:
        """Return the next round and free its room."""

    def progress(self) -> bool:
        """Progress messages; return whether anything has changed."""
        return False

    def free(self) -> None:  # noqa: B027  a default
        """Free the communicators, after the end. Collective over the edge's ranks."""

    def snapshot(self) -> float | None:
        """Return the measured bytes per row if they determine what is sent when."""
        return None

    def restore(self, row_bytes: float, first_round: int) -> None:  # noqa: B027  a default
        """Restore a snapshot; call before the first round."""

    @property
    def behind(self) -> list[int]:
        """Producers, by their ranks on the edge, whose next step it waits for, if known."""
        return []

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether nothing is in flight, or will be, on any rank."""


class LocalEdge(Edge):
    """An edge within one rank: a queue of at most ``capacity`` rounds."""

    bytes_sent = Counter("sent", unit=BYTES)

    def __init__(self, name: str, capacity: int) -> None:
        super().__init__(name)
        self._capacity = capacity
        self._closed: deque[RoundInput] = deque()
        self._open: list[pa.RecordBatch] = []
        self._taken = 0
        self._complete = -1
        self._reached = MIN_TIME
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

    @property
    def finished(self) -> bool:
        return self._finished
