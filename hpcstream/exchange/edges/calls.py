"""Numbered collective calls: an all-to-all of headers and, if any requires it, one of payload.

The transport below `CollectiveEdge`, which is independent of rounds: a call carries a
header with a few numbers, and optionally a message, from every rank to every rank.
Small messages travel inside the header's slot. Others are shared with the ranks that can
map this rank's memory; if there are consumers that cannot, the rank sets `PAYLOAD`, which
all ranks see, so that either all ranks post the payload call or none does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hpcstream.exchange.communicator import Communicator, Request
from hpcstream.exchange.edges.header import (
    BYTES,
    COUNTER,
    EXTENT,
    FLAGS,
    HEADER_BYTES,
    HEADER_WORDS,
    OFFSET,
    PAYLOAD,
    ROUND,
    ROWS,
    SHARED,
    WATERMARK,
    inline_bytes,
)
from hpcstream.exchange.renewal import RenewedCommunicator
from hpcstream.exchange.shared_messages import MessageHandle, Nearby, Peer
from hpcstream.exchange.wire.format import Pool
from hpcstream.exchange.wire.message import Message

_ALIGNMENT = 64


class EdgeGroup(NamedTuple):
    """Producers and consumers of an edge, as ranks of the edge's communicator."""

    producers: tuple[int, ...]
    consumers: tuple[int, ...]


class EdgeMemory(NamedTuple):
    """The memory of an edge's messages.

    Attributes
    ----------
    pool : Pool
        For received messages, and for sent ones if ``nearby`` is None.
    nearby : Nearby or None
        The ranks of the edge's communicator that share memory.
    """

    pool: Pool
    nearby: Nearby | None = None

    @property
    def send_pool(self) -> Pool:
        """The pool of messages to send."""
        return self.nearby.own.pool if self.nearby else self.pool


class Call:
    """One posted call: headers in flight, then payload if there is any, then complete.

    Attributes
    ----------
    headers : list of list of int
        The header from each rank, empty until received; see `hpcstream.exchange.edges.header`.
    """

    __slots__ = ("headers", "message", "payload", "payload_request", "request", "slot", "starts")

    def __init__(self, slot: int, request: Request, message: Message | None) -> None:
        self.slot = slot
        self.request = request
        self.message = message
        self.headers: list[list[int]] = []
        self.payload: np.ndarray | None = None
        self.payload_request: Request | None = None
        self.starts: list[int] = []

    @property
    def is_complete(self) -> bool:
        """Whether headers, and payload if there is any, have been received."""
        if not self.headers:
            return False
        return self.payload_request is None or self.payload_request.test()


class CallSequence:
    """Posts calls in order and returns completed calls in the same order.

    Parameters
    ----------
    headers, payloads : Communicator
        Private to this sequence. Every rank posts the same number of calls.
    group : EdgeGroup
        Producers and consumers of messages; headers reach all ranks.
    depth : int
        Most calls in flight.
    memory : EdgeMemory
        Messages given to `post` are in its ``send_pool``.
    """

    def __init__(
        self,
        headers: Communicator,
        payloads: Communicator,
        group: EdgeGroup,
        *,
        depth: int,
        memory: EdgeMemory,
    ) -> None:
        self.rank = headers.rank
        self.size = headers.size
        self.posted = 0
        self.bytes_sent = 0
        self._headers = RenewedCommunicator(headers)
        self._payloads = RenewedCommunicator(payloads)
        self._targets = group.consumers
        self._consumers = np.array(group.consumers, dtype=np.int64)
        self._consumes = self.rank in group.consumers
        nearby = memory.nearby
        self._own = nearby.own if nearby else None
        self._peers: Mapping[int, Peer] = nearby.peers if nearby else {}
        self._near = [index for index, rank in enumerate(self._targets) if rank in self._peers]
        self._near_ranks = self._consumers[self._near]
        self._far = [
            (index, rank)
            for index, rank in enumerate(self._targets)
            if rank not in self._peers and rank != self.rank
        ]
        self._others = [(index, r) for index, r in enumerate(self._targets) if r != self.rank]
        self._pool = memory.pool
        self._inline = inline_bytes(self.size)
        shape = (depth, self.size, HEADER_BYTES + self._inline)
        self._send_slots = np.zeros(shape, dtype=np.uint8)
        self._receive_slots = np.zeros(shape, dtype=np.uint8)
        self._free_slots = list(range(depth))
        self._under_way: deque[Call] = deque()

    @property
    def under_way(self) -> int:
        """Number of calls that are posted and not yet returned."""
        return len(self._under_way)

    @property
    def room(self) -> int:
        """Number of calls that may be posted now."""
        return len(self._free_slots) if self._headers.is_ready else 0

    # -- posting -----------------------------------------------------------------------

    def post(self, flags: int, round_number: int, watermark: int, message: Message | None) -> None:
        """Post the next call. Collective; does not wait."""
        for peer in self._peers.values():
            if peer.unreleased:
                peer.release()
        slot = self._free_slots.pop()
        outgoing = self._send_slots[slot]
        words = outgoing.view(np.int64)[:, :HEADER_WORDS]
        words[:, ROWS] = 0
        if message is not None:
            flags |= self._write_message(message, outgoing, words)
        words[:, FLAGS] = flags
        words[:, ROUND] = round_number
        words[:, WATERMARK] = watermark
        self.posted += 1
        request = self._headers.next().all_to_all(
            outgoing.reshape(-1), self._receive_slots[slot].reshape(-1)
        )
        self._under_way.append(Call(slot, request, message))

    def _write_message(self, message: Message, outgoing: np.ndarray, words: np.ndarray) -> int:
        """Write the location of each consumer's rows; return the flags of how they are sent."""
        counts = message.counts.tolist()  # few: Python sums them faster than NumPy
        words[self._consumers, ROWS] = message.rows
        words[self._consumers, BYTES] = message.counts
        self.bytes_sent += sum(counts)
        if self._fit_inline(counts, self._others):
            self._copy_inline(outgoing, message, self._others)
            return 0
        if not self._share(message, counts, words):
            return PAYLOAD
        if not self._fit_inline(counts, self._far):
            return SHARED | PAYLOAD
        self._copy_inline(outgoing, message, self._far)
        return SHARED

    def _share(self, message: Message, counts: list[int], words: np.ndarray) -> bool:
        """Share a message with nearby consumers; False if there are none or no counter is free."""
        n_readers = sum(counts[index] > 0 for index in self._near)
        if self._own is None or not n_readers:
            return False
        handle = self._own.share(message.data, n_readers)
        if handle is None:
            return False
        words[self._near_ranks, OFFSET] = handle.offset + message.displacements[self._near]
        words[:, COUNTER] = handle.counter
        words[:, EXTENT] = handle.extent
        return True

    def _fit_inline(self, counts: list[int], targets: Sequence[tuple[int, int]]) -> bool:
        return all(counts[index] <= self._inline for index, _ in targets)

    def _copy_inline(
        self, outgoing: np.ndarray, message: Message, targets: Sequence[tuple[int, int]]
    ) -> None:
        for index, rank in targets:
            n_bytes = int(message.counts[index])
            if n_bytes:
                start = int(message.displacements[index])
                outgoing[rank, HEADER_BYTES : HEADER_BYTES + n_bytes] = message.data[
                    start : start + n_bytes
                ]

    # -- completing --------------------------------------------------------------------

    def progress(self) -> bool:
        """Test headers and post payloads, in call order; True if any header has arrived."""
        moved = False
        for call in self._under_way:
            if call.headers:
                continue
            if not call.request.test() or not self._payloads.is_ready:
                break
            self._read_headers(call)
            moved = True
        return moved

    def take_complete(self) -> Call | None:
        """Return the oldest call if it is complete; call `release` once it is read."""
        if self._under_way and self._under_way[0].is_complete:
            return self._under_way.popleft()
        return None

    def release(self, call: Call) -> None:
        """Free the slot of a call."""
        self._free_slots.append(call.slot)

    def _read_headers(self, call: Call) -> None:
        words = self._receive_slots[call.slot].view(np.int64)[:, :HEADER_WORDS]
        call.headers = words.tolist()
        if any(header[FLAGS] & PAYLOAD for header in call.headers):
            self._post_payload(call)

    def _post_payload(self, call: Call) -> None:
        send_counts = np.zeros(self.size, dtype=np.int64)
        send_starts = np.zeros(self.size, dtype=np.int64)
        outgoing = np.empty(0, dtype=np.uint8)
        message = call.message
        if message is not None and call.headers[self.rank][FLAGS] & PAYLOAD:
            send_counts[self._consumers] = message.counts
            send_starts[self._consumers] = message.displacements
            send_counts[self.rank] = 0  # own rows are not sent
            if call.headers[self.rank][FLAGS] & SHARED:
                send_counts[self._near_ranks] = 0
            outgoing = message.data
        receive_counts, total = self._lay_out(call)
        call.payload = self._pool.take(total) if total else np.empty(0, dtype=np.uint8)
        call.payload_request = self._payloads.next().all_to_all_v(
            outgoing,
            send_counts,
            send_starts,
            call.payload,
            receive_counts,
            np.array(call.starts, dtype=np.int64),
        )

    def _lay_out(self, call: Call) -> tuple[np.ndarray, int]:
        """Compute each sender's aligned offset in the receive buffer."""
        counts = np.zeros(self.size, dtype=np.int64)
        call.starts, total = [0] * self.size, 0
        if not self._consumes:
            return counts, total
        for rank, header in enumerate(call.headers):
            call.starts[rank] = total
            if rank != self.rank and header[ROWS] and self._is_sent(rank, header):
                counts[rank] = header[BYTES]
                total += -(-header[BYTES] // _ALIGNMENT) * _ALIGNMENT
        return counts, total

    def _is_sent(self, rank: int, header: list[int]) -> bool:
        """Whether a rank sends its rows for this one with the payload call."""
        is_shared = header[FLAGS] & SHARED and rank in self._peers
        return bool(header[FLAGS] & PAYLOAD) and not is_shared

    def memory_of(self, call: Call, rank: int) -> np.ndarray:
        """Return what ``rank`` sent in a complete call: uint8[bytes], valid beyond `release`."""
        header = call.headers[rank]
        n_bytes = header[BYTES]
        if rank == self.rank:
            assert call.message is not None, "a rank receives its own message"
            start = int(call.message.displacements[self._targets.index(rank)])
            return call.message.data[start : start + n_bytes]
        if header[FLAGS] & SHARED and rank in self._peers:
            handle = MessageHandle(header[OFFSET], header[COUNTER], header[EXTENT])
            return self._peers[rank].map(handle, n_bytes)
        if header[FLAGS] & PAYLOAD:
            assert call.payload is not None, "payload was announced but not received"
            start = call.starts[rank]
            return call.payload[start : start + n_bytes]
        memory = self._pool.take(n_bytes)  # the slot is reused, so inline messages are copied
        memory[:] = self._receive_slots[call.slot, rank, HEADER_BYTES : HEADER_BYTES + n_bytes]
        return memory

    def free(self) -> None:
        """Free the communicators. Collective."""
        self._headers.free()
        self._payloads.free()
