"""The interface of the message layer.

All operations are nonblocking: a call posts, `Request.test` polls. Implementations are
`hpcstream.exchange.mpi` over MPI, `hpcstream.exchange.solo` for one rank, and
`hpcstream.testing.simulation` between ranks in one thread.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa

NOTE_BYTES = 512
"""Most bytes of a note from one rank to another."""


class Request(Protocol):
    """An operation in flight."""

    def test(self) -> bool:
        """Return whether the operation is complete, without waiting. May be called again."""


class Communicator(Protocol):
    """A group of ranks with its own message space.

    All ranks must post collectives in the same order. A buffer must not be used until the
    request of its operation is complete.
    """

    @property
    def rank(self) -> int:
        """Number of the calling rank in the group."""

    @property
    def size(self) -> int:
        """Number of ranks in the group."""

    def all_to_all(self, send: np.ndarray, receive: np.ndarray) -> Request:
        """Exchange equal slots: ``send`` and ``receive`` are uint8[size * slot_bytes]."""

    def all_to_all_v(
        self,
        send: np.ndarray,
        send_counts: np.ndarray,
        send_displacements: np.ndarray,
        receive: np.ndarray,
        receive_counts: np.ndarray,
        receive_displacements: np.ndarray,
    ) -> Request:
        """Exchange bytes; counts and displacements are int64[size], each below 2**31."""

    def all_reduce(self, send: np.ndarray, receive: np.ndarray, op: str) -> Request:
        """Reduce int64[n] or float64[n] elementwise over all ranks; ``op`` is sum, min or max."""

    def all_gather(self, send: np.ndarray, receive: np.ndarray) -> Request:
        """Gather uint8[n] of every rank into uint8[size * n], in rank order."""

    def duplicate(self) -> Communicator:
        """Return the same group with another message space. Collective; setup only."""

    def begin_duplicate(self) -> tuple[Request, Communicator]:
        """Post `duplicate`; the communicator is usable once the request is complete."""

    def subset(self, ranks: Sequence[int]) -> Communicator | None:
        """Return a communicator of ``ranks``, or None elsewhere. Collective; setup only."""

    def neighborhood(self, neighbors: Sequence[int]) -> Communicator:
        """Return a duplicate whose `all_to_all_v` touches ``neighbors`` only.

        Collective; setup only. ``neighbors`` must be symmetric over the ranks.
        """

    def send_wake(self, rank: int) -> None:
        """Wake ``rank`` with a small message. Does not wait."""

    def take_wake(self) -> bool:
        """Return whether a wake message has arrived since the last call."""

    def send_note(self, rank: int, note: bytes) -> None:
        """Send at most `NOTE_BYTES` bytes to ``rank``. Does not wait; notes may be dropped."""

    def take_notes(self) -> list[tuple[int, bytes]]:
        """Return the notes that have arrived since the last call, with their senders."""

    def free(self) -> None:
        """Free the message space. Collective."""

    def abort(self, code: int) -> None:
        """End every process of the job immediately. Does not return."""


_T = TypeVar("_T")

Procedure: TypeAlias = Generator[None, None, _T]
"""Work that yields whenever it must wait, for other ranks most of all, and has a result."""


def wait_for(request: Request) -> Procedure[None]:
    """Yield until ``request`` is complete."""
    while not request.test():
        yield


def complete(procedure: Procedure[_T]) -> _T:
    """Run a procedure to its end and return its result; spins while it waits."""
    while True:
        try:
            next(procedure)
        except StopIteration as end:
            result: _T = end.value
            return result


def gather_bytes(comm: Communicator, data: bytes) -> Procedure[list[bytes]]:
    """Return the ``data`` of all ranks, in rank order. Collective; yields while waiting."""
    length = np.array([len(data)], dtype=np.int64)
    lengths = np.empty(comm.size, dtype=np.int64)
    yield from wait_for(comm.all_gather(length.view(np.uint8), lengths.view(np.uint8)))
    longest = int(lengths.max())
    if longest == 0:
        return [b""] * comm.size
    padded = np.zeros(longest, dtype=np.uint8)
    padded[: len(data)] = np.frombuffer(data, dtype=np.uint8)
    everything = np.empty(longest * comm.size, dtype=np.uint8)
    yield from wait_for(comm.all_gather(padded, everything))
    rows = everything.reshape(comm.size, longest)
    return [rows[rank, : lengths[rank]].tobytes() for rank in range(comm.size)]


_SPREAD_BYTES = 64 << 20


def spread_bytes(comm: Communicator, data: pa.Buffer | None) -> Procedure[pa.Buffer]:
    """Return the ``data`` of rank 0 on all ranks. Collective; yields while waiting.

    All ranks but rank 0 allocate memory of that size.
    """
    length = np.array([0 if data is None else data.size], dtype=np.int64)
    lengths = np.empty(comm.size, dtype=np.int64)
    yield from wait_for(comm.all_gather(length.view(np.uint8), lengths.view(np.uint8)))
    n_bytes, is_first = int(lengths[0]), comm.rank == 0
    spread = np.empty(n_bytes, np.uint8)
    if is_first and data is not None:
        spread = np.frombuffer(memoryview(data), np.uint8)
    nothing, none = np.empty(0, np.uint8), np.zeros(comm.size, np.int64)
    for start in range(0, n_bytes, _SPREAD_BYTES):
        part = spread[start : start + _SPREAD_BYTES]
        to_others, from_first = none.copy(), none.copy()
        if is_first:
            to_others[1:] = len(part)
        else:
            from_first[0] = len(part)
        own, other = (part, nothing) if is_first else (nothing, part)
        yield from wait_for(comm.all_to_all_v(own, to_others, none, other, from_first, none))
    return pa.py_buffer(spread)
