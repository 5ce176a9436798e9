"""An edge over ranks: streams of steps, multiplexed over symmetric collective calls.

All ranks of the edge, producers and consumers, take part in a sequence of
numbered *calls*. A call is one nonblocking all-to-all of headers and, if any
header requires it, one nonblocking all-to-all-v of payload. In each call a rank
sends the next *step* of its own stream of rounds, or an *empty step*::

    call      0          1          2          3          4
    rank 0   [r0 last]  [r1 more]  [r1 more]  [r1 last]  [r2 last]
    rank 1   [r0 last]  [r1 last]  [r2 last]   empty      empty ...

A step carries the number of its round, so ranks need not agree on the number of steps of
a round: only the number of calls must be the same on all ranks. Rules:

1. A rank posts a call when it has a step to send. It may start round *r* only
   when round *r - capacity* is complete on the edge and, if it also consumes,
   consumed here. So no rank runs ahead of the slowest producer by more than
   ``capacity`` rounds, nor of the slowest consumer by more than twice that.
2. When all its calls are complete and some producer is behind the rank's own
   last round (for a rank that only consumes: behind the rounds it has room for), or
   in the middle of a round, the rank posts an empty step: that producer is bound to
   post a call, and must not wait for this rank. A rank whose task is blocked in a round on
   *another* edge counts that round as its last (`note_blocked`): otherwise a producer that
   fills this edge in the same round would wait for this rank, which waits there for it.
3. After its last round a producer sends an *end-of-stream step*. The edge is finished on
   all ranks in the call with the last of these, which is the same call everywhere, so
   that no operation remains in flight.

No deadlock: let *r* be the smallest unfinished round and *p* a producer that
owes a step of it. Every other rank has either posted *p*'s next call, or is
bound by rule 2 to post it, or itself owes a step of round *r*, which depends on
edges nearer to the sources only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa

from hpcstream.columns.event_time import MAX_TIME, MIN_TIME, least_mark
from hpcstream.errors import HpcstreamError
from hpcstream.exchange.communicator import Communicator
from hpcstream.exchange.edges.base import Edge, RoundEnd, RoundInput
from hpcstream.exchange.edges.calls import Call, CallSequence, EdgeGroup, EdgeMemory
from hpcstream.exchange.edges.header import (
    ABORT,
    BUSY,
    END,
    FLAGS,
    IDLE,
    LAST,
    ROUND,
    ROWS,
    STEP,
    WATERMARK,
)
from hpcstream.exchange.partitioning import Partitioning, encode_partitioned
from hpcstream.exchange.wire.format import WireFormat
from hpcstream.exchange.wire.message import Message
from hpcstream.metric import BYTES, Gauge

_MAX_PAYLOAD = 2**31 - 1


class EdgeLimits(NamedTuple):
    """Bounds of an edge: rounds in flight, and bytes a step may have."""

    capacity: int
    step_bytes: int = 4 << 20
    receive_bytes: int = 256 << 20


class _Sender:
    """The state of one producer's stream."""

    __slots__ = ("ended", "marks", "mid_round", "round")

    def __init__(self) -> None:
        self.round = -1
        self.marks: deque[int | None] = deque()  # of its rounds that are not complete
        self.mid_round = False
        self.ended = False


class CollectiveEdge(Edge):
    """One rank's end of an edge; the module docstring describes the protocol.

    Parameters
    ----------
    name : str
        For messages and metrics.
    headers, payloads : Communicator
        Private to this edge.
    group : EdgeGroup
        Producers and consumers, as ranks of ``headers``.
    schema : pyarrow.Schema
        Of the rows, hidden columns included.
    partitioning : Partitioning
        Assigns each row to a consumer.
    limits : EdgeLimits
        Rounds in flight and bytes per step.
    memory : EdgeMemory
        Memory of sent and received messages.
    """

    bytes_sent = Gauge("sent", "_calls.bytes_sent", unit=BYTES)

    def __init__(
        self,
        name: str,
        headers: Communicator,
        payloads: Communicator,
        *,
        group: EdgeGroup,
        schema: pa.Schema,
        partitioning: Partitioning,
        limits: EdgeLimits,
        memory: EdgeMemory,
    ) -> None:
        super().__init__(name)
        self.first_round = 0  # the number of round 0 for partitionings: greater after a restore
        self.empty_steps_posted = 0
        self._calls = CallSequence(
            headers, payloads, group, depth=limits.capacity + 2, memory=memory
        )
        self._rank = headers.rank
        self._group = group
        self._produces = self._rank in group.producers
        self._consumes = self._rank in group.consumers
        self._sender = group.producers.index(self._rank) if self._produces else -1
        self._wire = WireFormat(schema, memory.send_pool)
        self._partitioning = partitioning
        self._limits = limits
        self._step_bytes = min(
            limits.step_bytes, max(limits.receive_bytes // len(group.producers), 1 << 16)
        )
        self._row_bytes = _estimated_row_bytes(schema)
        self._senders = {rank: _Sender() for rank in group.producers}
        self._others = [sender for rank, sender in self._senders.items() if rank != self._rank]
        self._inbox: dict[int, dict[int, RoundInput]] = {}
        self._complete = -1
        self._reached = MIN_TIME
        self._taken = -1
        self._round = 0
        self._last_sent = -1
        self._blocked_round = -1
        self._end_round: int | None = None
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = 0

    @property
    def calls_posted(self) -> int:
        """Number of calls so far; the same on every rank when the edge is finished."""
        return self._calls.posted

    # -- the producer's side ---------------------------------------------------------

    def may_start(self, round_number: int) -> bool:
        """Return whether round ``round_number`` may be opened (rule 1)."""
        oldest = round_number - self._limits.capacity
        return self._complete >= oldest and (not self._consumes or self._taken >= oldest)

    def send(self, batch: pa.RecordBatch) -> Iterator[None]:
        """Add a batch to the open round; send a step whenever its size limit is reached.

        Batches are divided if a step would become too large. They are concatenated, which
        copies them, only while they fill less than half a step.
        """
        start, n_rows = 0, batch.num_rows
        while start < n_rows:
            most = self._rows_per_step()
            n_parts = -(-(n_rows - start) // most)
            part = batch.slice(start, -(-(n_rows - start) // n_parts))
            if self._pending and self._pending_rows + part.num_rows > most // 2:
                yield from self._post_step(STEP, MAX_TIME)
                continue
            start += part.num_rows
            self._pending.append(part)
            self._pending_rows += part.num_rows
            if self._pending_rows >= most // 2:
                yield from self._post_step(STEP, MAX_TIME)

    def close(self, round_number: int, end: RoundEnd) -> Iterator[None]:
        """Send the rest of the round with its last step."""
        assert round_number == self._round, f"{self.name}: rounds are closed in order"
        if end.abort:
            self._pending, self._pending_rows = [], 0
        flags = STEP | LAST
        flags |= IDLE if end.idle else 0
        flags |= BUSY if end.busy else 0
        flags |= ABORT if end.abort else 0
        yield from self._post_step(flags, end.watermark)
        self._last_sent = round_number
        self._round += 1

    def finish(self, end_round: int) -> None:
        """Send the end-of-stream step after the last round, ``end_round - 1``. Rule 3."""
        if self._produces:
            assert self._round == end_round, f"{self.name}: round {self._round} is still open"
            self._end_round = end_round
            self._post_end()

    def _post_end(self) -> None:
        if self._end_round is not None and self._calls.room:
            self._post(STEP | LAST | END, MAX_TIME, None)
            self._last_sent, self._end_round = self._end_round, None

    def note_blocked(self, round_number: int) -> None:
        """Note that this rank has begun the round, but is blocked on another edge. Rule 2."""
        self._blocked_round = round_number

    def snapshot(self) -> float:
        """Return the measured bytes per row, which determine how a round is divided into steps."""
        return self._row_bytes

    def restore(self, row_bytes: float, first_round: int) -> None:
        """Restore a snapshot; call before the first round."""
        self._row_bytes = row_bytes
        self.first_round = first_round

    def _rows_per_step(self) -> int:
        return max(1, int(self._step_bytes / self._row_bytes))

    def _post_step(self, flags: int, watermark: int) -> Iterator[None]:
        while self._calls.room <= 1:  # the last slot is reserved for the end-of-stream step
            yield
        self._post(flags, watermark, self._encode() if self._pending_rows else None)

    def _post(self, flags: int, watermark: int, message: Message | None) -> None:
        self._calls.post(flags, self._round, watermark, message)

    def _encode(self) -> Message:
        batches, rows = self._pending, self._pending_rows
        self._pending, self._pending_rows = [], 0
        batch = batches[0] if len(batches) == 1 else pa.concat_batches(batches)
        message = encode_partitioned(
            self._partitioning,
            self._wire,
            batch,
            len(self._group.consumers),
            self._sender,
            self.first_round + self._round,
        )
        total = sum(message.counts.tolist())
        if total > _MAX_PAYLOAD:
            raise HpcstreamError(
                f"{self.name}: a step of {rows} rows has {total} bytes, more than the "
                f"{_MAX_PAYLOAD} that one MPI message carries; split the large values"
            )
        self._row_bytes = max(0.9 * self._row_bytes, total / rows, 1.0)
        return message

    # -- calls -----------------------------------------------------------------------

    def progress(self) -> bool:
        """Progress calls, deliver completed ones, post an empty step if rule 2 requires it."""
        moved, calls = False, self._calls
        if calls.under_way:
            moved = calls.progress()
            while (call := calls.take_complete()) is not None:
                self._deliver(call)
                calls.release(call)
                moved = True
        if self._end_round is not None:
            self._post_end()
        if not calls.under_way and self._is_awaited() and calls.room:
            self.empty_steps_posted += 1
            self._post(0, MAX_TIME, None)
        return moved

    def _is_awaited(self) -> bool:
        """Return whether some producer waits for a call of this rank. Rule 2."""
        if self._produces:
            room = max(self._last_sent, self._blocked_round)
        else:
            room = self._taken + self._limits.capacity
        for sender in self._others:
            if not sender.ended and (sender.mid_round or sender.round < room):
                return True
        return False

    # -- the consumer's side ---------------------------------------------------------

    def _deliver(self, call: Call) -> None:
        for rank, sender in self._senders.items():
            header = call.headers[rank]
            flags = header[FLAGS]
            if not flags & STEP:
                continue
            if flags & END:
                sender.ended = True
                continue
            if self._consumes:
                self._add_to_inbox(call, rank, header)
            sender.mid_round = not flags & LAST
            if flags & LAST:
                sender.round = header[ROUND]
                sender.marks.append(_mark(header))
            if flags & BUSY:
                self.busy_round = max(self.busy_round, header[ROUND])
            if flags & ABORT:
                self.abort_seen = True
        complete = min(sender.round for sender in self._senders.values())
        while self._complete < complete:
            self._complete += 1
            mark = least_mark([sender.marks.popleft() for sender in self._senders.values()])
            if mark is not None and mark > self._reached:
                self._reached = mark

    def _add_to_inbox(self, call: Call, rank: int, header: list[int]) -> None:
        inbox = self._inbox.setdefault(header[ROUND], {})
        part = inbox.get(rank)
        if part is None:
            part = inbox[rank] = RoundInput()
        if header[ROWS]:
            memory = self._calls.memory_of(call, rank)
            part.batches.append(self._wire.decode(memory, header[ROWS]))
        if header[FLAGS] & LAST:
            part.watermark = _mark(header)
            part.busy = bool(header[FLAGS] & BUSY)

    def reached_by(self, round_number: int) -> int | None:
        """Return the greatest common mark of all producers so far; None before the round."""
        return self._reached if self._complete >= round_number else None

    def has_round(self, round_number: int) -> bool:
        """Return whether the round has arrived from every producer."""
        return self._complete >= round_number

    def take(self, round_number: int) -> RoundInput:
        """Return the next complete round and free its room."""
        assert round_number == self._taken + 1, f"{self.name}: rounds are taken in order"
        self._taken = round_number
        parts = self._inbox.pop(round_number)
        whole = RoundInput()
        for rank in self._group.producers:
            part = parts[rank]
            whole.batches += part.batches
            whole.busy = whole.busy or part.busy
        whole.watermark = least_mark([part.watermark for part in parts.values()])
        return whole

    @property
    def finished(self) -> bool:
        """Whether every producer has ended its stream and no call is in flight."""
        return not self._calls.under_way and all(sender.ended for sender in self._senders.values())

    @property
    def behind(self) -> list[int]:
        """Producers whose next step the edge waits for."""
        return [rank for rank, s in self._senders.items() if s.round == self._complete]

    def free(self) -> None:
        """Free the communicators. Collective."""
        self._calls.free()


def _mark(header: list[int]) -> int | None:
    return None if header[FLAGS] & IDLE else header[WATERMARK]


def _estimated_row_bytes(schema: pa.Schema) -> float:
    """Return an initial estimate of the bytes per row on the wire; strings are measured later."""
    bits = 0
    for field in schema:
        try:
            bits += max(field.type.bit_width, 8)
        except ValueError:  # strings, nested types
            bits += 24 * 8
    return max(bits / 8, 1.0)
