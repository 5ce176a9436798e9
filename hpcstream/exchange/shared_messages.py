"""Messages that ranks of one host read where they lie, instead of having them copied.

::

    lender                                             borrower
    a message, in a block of its shared file
    lend: a counter at 0, the block kept ── header ──> borrow: views of the lender's memory
                                                       ... until the last one dies
    the block is free, the counter too <─ counter + 1 ─ give back, with the next call

Nobody waits: whoever keeps what it borrowed keeps memory of the lender, as it would keep
memory of its own. While every counter is taken, messages are sent as to another host.
"""

from __future__ import annotations

import functools
import json
import mmap
import os
import secrets
import weakref
from collections import deque
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hpcstream.exchange.communicator import Communicator, gather_bytes
from hpcstream.memory.arena import HUGE_PAGE
from hpcstream.memory.blocks import Lease
from hpcstream.memory.pool import BufferPool, process_pool
from hpcstream.memory.shared_arena import (
    Extent,
    SharedArena,
    SharedArenaMapper,
    SharedFile,
    map_extent,
)

LOANS = 1024
"""Messages of one rank that others may have at once."""

_TOKEN_BYTES = 16
_COUNTERS_AT = 4096  # in the head of the file; the token is at 0
_BOOT = Path("/proc/sys/kernel/random/boot_id")

Bytes = npt.NDArray[np.uint8]


class Loan(NamedTuple):
    """What a borrower must know: three words of a header.

    Attributes
    ----------
    place : int
        Of the message in the lender's file, in bytes.
    counter : int
    extent : int
        The range of the file to map, as `Extent.word`.
    """

    place: int
    counter: int
    extent: int


class _Lent(NamedTuple):
    data: Bytes  # kept until everyone has given it back
    n_borrowers: int


class Lender:
    """Messages of this process that others read, and what is to be told of them.

    Attributes
    ----------
    file : SharedFile
        Which others map.
    pool : BufferPool
        Memory of the file: only what is taken from it can be lent.

    Raises
    ------
    OSError
        The kernel makes no files in memory.
    """

    def __init__(self, node: int | None = None) -> None:
        self.file = SharedFile()
        self._token = secrets.token_bytes(_TOKEN_BYTES)
        self.file.head[:_TOKEN_BYTES] = self._token
        mapper = SharedArenaMapper(self.file, node)
        self.pool = BufferPool(node=node, name="exchange", arena_factory=mapper)
        self._counts = _counters(self.file.head)
        self._free = list(range(LOANS))
        self._lent: dict[int, _Lent] = {}

    def lend(self, data: Bytes, n_borrowers: int) -> Loan | None:
        """Let others read a buffer of the pool; None if it is not one, or too many are lent."""
        lease = data.base
        if not isinstance(lease, Lease):
            return None
        block, arena = lease.block, lease.block.arena
        if not isinstance(arena, SharedArena):
            return None
        self._collect()
        if not self._free:
            return None
        counter = self._free.pop()
        self._counts[counter] = 0
        self._lent[counter] = _Lent(data, n_borrowers)
        return Loan(arena.extent.start + block.offset, counter, arena.extent.word)

    @property
    def n_lent(self) -> int:
        """Messages that somebody has not given back."""
        self._collect()
        return len(self._lent)

    def _collect(self) -> None:
        """Take back what every borrower has given back."""
        if not self._lent:
            return
        from hpcstream.kernels.counters import read_counts

        counters = np.array(list(self._lent), dtype=np.int64)
        counts = np.empty_like(counters)
        read_counts(self._counts, counters, counts)
        for counter, count in zip(counters.tolist(), counts.tolist(), strict=True):
            if count == self._lent[counter].n_borrowers:
                del self._lent[counter]
                self._free.append(counter)

    def trim(self) -> None:
        """Give back the memory that no message is in."""
        self._collect()
        self.pool.trim()

    def card(self) -> bytes:
        """Return what other processes of the host need to find the file."""
        facts = (_BOOT.read_text(), os.getpid(), self.file.number, self._token.hex())
        return json.dumps(facts).encode()


class _Borrowed(np.ndarray[Any, Any]):
    """What every view of a borrowed message keeps alive. Never handed out itself."""

    __slots__ = ("counter", "peer")
    peer: Peer
    counter: int

    def __del__(self) -> None:
        try:
            self.peer.unread.append(self.counter)
        except AttributeError:  # a view of it, not what was borrowed
            return


class Peer:
    """The shared file of another rank, as this process sees it.

    Attributes
    ----------
    unread : deque of int
        Counters of messages with no view left, not given back yet. A view may die
        anywhere, in any thread: so it is only noted.
    """

    def __init__(self, path: str) -> None:
        self._number = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._number)
        head = Extent(0, HUGE_PAGE)
        self._head = map_extent(self._number, head, mmap.PROT_READ | mmap.PROT_WRITE)
        self._counts = _counters(self._head)
        self._mapped: dict[int, tuple[mmap.mmap, int]] = {}
        self.unread: deque[int] = deque()

    @property
    def token(self) -> bytes:
        """What the file begins with."""
        return self._head[:_TOKEN_BYTES]

    def borrow(self, loan: Loan, n_bytes: int) -> Bytes:
        """Return bytes of a message: uint8[n_bytes], to read only.

        Raises
        ------
        MemoryError
            The memory cannot be mapped.
        """
        memory, start = self._mapped.get(loan.extent) or self._map(loan.extent)
        borrowed = _Borrowed((n_bytes,), np.uint8, memory, loan.place - start)
        borrowed.peer, borrowed.counter = self, loan.counter
        return borrowed.view(np.ndarray)

    def _map(self, word: int) -> tuple[mmap.mmap, int]:
        extent = Extent.of_word(word)
        try:
            memory = map_extent(self._number, extent, mmap.PROT_READ)
        except OSError as error:
            raise MemoryError(
                f"{extent.n_bytes:,} bytes of another rank's memory cannot be mapped ({error}); "
                "raise `ulimit -v` or `sysctl vm.max_map_count`, or run with shared_memory=False"
            ) from error
        self._mapped[word] = memory, extent.start
        return self._mapped[word]

    def give_back(self) -> None:
        """Tell the lender of the messages that nobody here reads any more."""
        if not self.unread:
            return
        from hpcstream.kernels.counters import add_one

        counters = [self.unread.popleft() for _ in range(len(self.unread))]
        add_one(self._counts, np.array(counters, dtype=np.int64))


class Nearby(NamedTuple):
    """The ranks of a communicator that read each other's messages.

    Attributes
    ----------
    lender : Lender
        This rank's own messages.
    peers : mapping of int to Peer
        The others, by rank.
    """

    lender: Lender
    peers: Mapping[int, Peer]

    def within(self, members: tuple[int, ...]) -> Nearby | None:
        """Return the same for a communicator of some ranks; None if no other is near."""
        peers = {i: self.peers[rank] for i, rank in enumerate(members) if rank in self.peers}
        return Nearby(self.lender, peers) if peers else None


def find_nearby(
    comm: Communicator, *, allowed: bool = True
) -> Generator[None, None, Nearby | None]:
    """Return the ranks that can read each other's memory. Collective; yields while waiting.

    They are on one host, run as one user, and see each other's processes. Ranks that do
    not, and those that are not ``allowed``, send their messages.
    """
    for known in _known.values():
        known.give_back()
    lender = _own_lender() if allowed and comm.size > 1 else None
    own = lender.card() if lender else b""
    cards = yield from gather_bytes(comm, own)
    peers = {}
    for rank, card in enumerate(cards):
        peer = _peer_of(card, own) if own and card and rank != comm.rank else None
        if peer is not None:
            peers[rank] = peer
    answers = yield from gather_bytes(comm, json.dumps(list(peers)).encode())
    mutual = {rank: peer for rank, peer in peers.items() if comm.rank in json.loads(answers[rank])}
    return Nearby(lender, mutual) if lender and mutual else None


def trim() -> None:
    """Give back what nobody reads any more, here and as far as others have said so.

    For the end of a job, as `BufferPool.trim`.
    """
    for peer in _known.values():
        peer.give_back()
    lender = _own_lender() if _own_lender.cache_info().currsize else None
    if lender is not None:
        lender.trim()


@functools.cache
def _own_lender() -> Lender | None:
    """Return the lender of this process; None where the system has no such memory."""
    from hpcstream.kernels.counters import IS_ATOMIC

    if not IS_ATOMIC:
        return None
    try:
        lender = Lender(process_pool().node)
        lender.card()
    except (AttributeError, OSError):
        return None
    return lender


_known: dict[str, Peer] = {}
"""Peers by token: what an earlier job borrowed is given back by the next one."""


def _peer_of(card: bytes, own: bytes) -> Peer | None:
    boot, process, number, token = json.loads(card)
    if boot != json.loads(own)[0]:
        return None
    if token not in _known:
        path = f"/proc/{process}/fd/{number}"
        try:
            if not os.readlink(path).startswith("/memfd:hpcstream"):
                return None  # another process of this number, in a namespace of its own
            peer = Peer(path)
        except OSError:
            return None
        if peer.token.hex() != token:
            return None
        _known[token] = peer
    return _known[token]


def _counters(head: mmap.mmap) -> npt.NDArray[np.int64]:
    return np.frombuffer(head, dtype=np.int64, count=LOANS, offset=_COUNTERS_AT)
