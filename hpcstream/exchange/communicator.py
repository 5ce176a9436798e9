"""What the engine asks of a message layer.

Everything here is nonblocking: a call posts, `Request.test` looks. Two
implementations keep this contract: `hpcstream.exchange.mpi` over MPI, and
`hpcstream.testing.simulation` between ranks that live in one thread.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Protocol, TypeVar

import numpy as np
import pyarrow as pa

NOTE_BYTES = 512
"""Most bytes of a note from one rank to another."""


class Request(Protocol):
    """One operation under way."""

    def test(self) -> bool:
        """Return True once the operation is complete; never waits. May be asked again."""


class Communicator(Protocol):
    """A group of ranks with a message space of its own.

    Collectives must be posted by all ranks in the same order. Buffers belong to
    the operation until its request is complete.
    """

    @property
    def rank(self) -> int:
        """Number of this rank in the group."""

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
        """Return the same group with a message space of its own. Collective; setup only."""

    def begin_duplicate(self) -> tuple[Request, Communicator]:
        """Post `duplicate`; the communicator is usable once the request is complete."""

    def subset(self, ranks: Sequence[int]) -> Communicator | None:
        """Return a communicator of ``ranks``, or None elsewhere. Collective; setup only."""

    def neighborhood(self, neighbors: Sequence[int]) -> Communicator:
        """Return a duplicate whose `all_to_all_v` touches ``neighbors`` only.

        Collective; setup only. ``neighbors`` must be symmetric over the ranks.
        """

    def send_wake(self, rank: int) -> None:
        """Tell ``rank`` to stop sleeping; a small message that nobody waits for."""

    def take_wake(self) -> bool:
        """Return True if a wake message came since the last call."""

    def send_note(self, rank: int, note: bytes) -> None:
        """Send at most `NOTE_BYTES` bytes to ``rank``; nobody waits, and it may be dropped."""

    def take_notes(self) -> list[tuple[int, bytes]]:
        """Return the notes that have come since the last call, with their senders."""

    def free(self) -> None:
        """Give the message space back. Collective."""

    def abort(self, code: int) -> None:
        """End every process of the job at once. Does not return."""


_T = TypeVar("_T")

Waiting = Generator[None, None, None]
"""A procedure that yields whenever it must wait for other ranks."""


def wait_for(request: Request) -> Waiting:
    """Yield until ``request`` is complete."""
    while not request.test():
        yield


def complete(procedure: Generator[None, None, _T]) -> _T:
    """Drive a procedure of the exchange to its end, and return its result; spins meanwhile."""
    while True:
        try:
            next(procedure)
        except StopIteration as end:
            result: _T = end.value
            return result


def gather_bytes(comm: Communicator, data: bytes) -> Generator[None, None, list[bytes]]:
    """Return what each rank gave, in rank order. Collective; yields while waiting."""
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


def spread_bytes(comm: Communicator, data: pa.Buffer | None) -> Generator[None, None, pa.Buffer]:
    """Return on all ranks what rank 0 gave. Collective; yields while waiting.

    Takes the memory of the bytes once more on each rank but the first.
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
