"""Renews communicators in long runs.

Some transports number nonblocking collectives in 24 bits of the tag; after 2**24 calls on
one communicator, they could confuse the messages of two calls. Every rank of an edge makes
the same calls in the same order, so all ranks switch to a new duplicate after the same
number of calls, without agreement.
"""

from __future__ import annotations

from hpcstream.exchange.communicator import Communicator, Request

RENEW_AFTER_CALLS = 1 << 22


class RenewedCommunicator:
    """Returns the communicator of each call, renewed every ``n_calls`` calls.

    A nonblocking call begins the duplicate after half of the calls. When it is due, every
    rank has begun it (ranks of an edge are only a few calls apart, so ``n_calls`` must be
    more than twice that). Check `is_ready` before `next` and do other work meanwhile: MPI
    may make the duplicates of several edges one after the other, and ranks may have begun
    them in different orders.

    Duplicates are made of a *seed* that carries nothing else: Open MPI 5.0 confuses the
    messages of an ``Idup`` with those of collectives in flight on the same communicator
    (seen: truncated messages, ranks that wait forever).

    Parameters
    ----------
    comm : Communicator
        The seed; `free` frees it too. The constructor is collective, since it makes the first
        duplicate.
    n_calls : int
        Calls on each duplicate.
    """

    def __init__(self, comm: Communicator, n_calls: int = RENEW_AFTER_CALLS) -> None:
        self._seed = comm
        self._comm = comm.duplicate()
        self._n_calls = n_calls
        self._calls_left = n_calls
        self._begun: tuple[Request, Communicator] | None = None
        self._retired: list[Communicator] = []
        self.renewals = 0

    @property
    def is_ready(self) -> bool:
        """Whether `next` returns without waiting."""
        return self._calls_left > 0 or (self._begun is not None and self._begun[0].test())

    def next(self) -> Communicator:
        """Return the communicator of the next call. Collective when it renews."""
        if self._calls_left == self._n_calls // 2:
            self._begun = self._seed.begin_duplicate()
        if self._calls_left == 0:
            self._renew()
        self._calls_left -= 1
        return self._comm

    def _renew(self) -> None:
        assert self._begun is not None
        request, fresh = self._begun
        while not request.test():
            continue
        self._retired.append(self._comm)
        self._comm = fresh
        self._calls_left = self._n_calls
        self.renewals += 1

    def free(self) -> None:
        """Free all duplicates and the seed. Collective."""
        if self._begun is not None and self._begun[1] is not self._comm:
            request, fresh = self._begun
            while not request.test():
                continue
            self._retired.append(fresh)
        for comm in [*self._retired, self._comm, self._seed]:
            comm.free()
