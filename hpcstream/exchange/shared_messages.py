"""Messages in shared memory, which ranks of one host read without a copy.

::

    sender                                             reader
    a message, in a block of its shared file
    share: a reference counter, block kept ── header ──> map: views of the sender's memory
                                                         ... until the last view dies
    the block and the counter are free <── counter + 1 ── release, with the next call

No rank waits: a reader that keeps a message occupies memory of the sender instead of its own
memory. While all counters are in use, messages are sent as to another host.
"""

from __future__ import annotations

import functools
import json
import mmap
import os
import secrets
import weakref
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hpcstream.exchange.communicator import Communicator, Procedure, gather_bytes
from hpcstream.memory.arena import HUGE_PAGE
from hpcstream.memory.blocks import BlockLease
from hpcstream.memory.pool import BufferPool, process_pool
from hpcstream.memory.shared_arena import (
    Extent,
    SharedArena,
    SharedArenaMapper,
    SharedFile,
    map_extent,
)

MAX_SHARED = 1024
"""Most messages of one rank that others read at the same time."""

_TOKEN_BYTES = 16
_COUNTERS_AT = 4096  # in the head of the file; the token is at 0
_BOOT = Path("/proc/sys/kernel/random/boot_id")

Bytes = npt.NDArray[np.uint8]


class MessageHandle(NamedTuple):
    """The location of a shared message: three words of a header.

    Attributes
    ----------
    offset : int
        Of the message in the sender's file, in bytes.
    counter : int
        Number of its reference counter.
    extent : int
        The range of the file to map, as `Extent.word`.
    """

    offset: int
    counter: int
    extent: int


class _Shared(NamedTuple):
    data: Bytes  # kept until all readers have released it
    n_readers: int


class SharedMessages:
    """The messages of this process that other ranks of the host read.

    Attributes
    ----------
    file : SharedFile
        The file in memory that readers map.
    pool : BufferPool
        Buffers in the file: only these can be shared.

    Raises
    ------
    OSError
        The kernel does not support files in memory.
    """

    def __init__(self, node: int | None = None) -> None:
        self.file = SharedFile()
        self._token = secrets.token_bytes(_TOKEN_BYTES)
        self.file.head[:_TOKEN_BYTES] = self._token
        mapper = SharedArenaMapper(self.file, node)
        self.pool = BufferPool(node=node, name="exchange", arena_factory=mapper)
        self._counts = _counters(self.file.head)
        self._free = list(range(MAX_SHARED))
        self._shared: dict[int, _Shared] = {}

    def share(self, data: Bytes, n_readers: int) -> MessageHandle | None:
        """Share a buffer of the pool; None if it is not of the pool or no counter is free."""
        lease = data.base
        if not isinstance(lease, BlockLease):
            return None
        block, arena = lease.block, lease.block.arena
        if not isinstance(arena, SharedArena):
            return None
        self._collect()
        if not self._free:
            return None
        counter = self._free.pop()
        self._counts[counter] = 0
        self._shared[counter] = _Shared(data, n_readers)
        return MessageHandle(arena.extent.start + block.offset, counter, arena.extent.word)

    @property
    def n_shared(self) -> int:
        """Number of messages that some reader has not released."""
        self._collect()
        return len(self._shared)

    def _collect(self) -> None:
        """Free the messages that all readers have released."""
        if not self._shared:
            return
        from hpcstream.kernels.counters import read_counts

        counters = np.array(list(self._shared), dtype=np.int64)
        counts = np.empty_like(counters)
        read_counts(self._counts, counters, counts)
        for counter, count in zip(counters.tolist(), counts.tolist(), strict=True):
            if count == self._shared[counter].n_readers:
                del self._shared[counter]
                self._free.append(counter)

    def trim(self) -> None:
        """Return unused memory to the system."""
        self._collect()
        self.pool.trim()

    def locator(self) -> bytes:
        """Return what other processes of the host need to open the file."""
        parts = (_BOOT.read_text(), os.getpid(), self.file.number, self._token.hex())
        return json.dumps(parts).encode()


class _Mapped(np.ndarray[Any, Any]):
    """The base of all views of a mapped message, released when the last view dies."""

    __slots__ = ("counter", "peer")
    peer: Peer
    counter: int

    def __del__(self) -> None:
        try:
            self.peer.unreleased.append(self.counter)
        except AttributeError:  # a view, not the base
            return


class Peer:
    """The shared file of another rank, mapped into this process.

    Attributes
    ----------
    unreleased : deque of int
        Counters of messages without a view that `release` has not counted yet. A view may
        die at any time and in any thread, so its death only appends here.
    """

    def __init__(self, path: str) -> None:
        self._number = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._number)
        head = Extent(0, HUGE_PAGE)
        self._head = map_extent(self._number, head, mmap.PROT_READ | mmap.PROT_WRITE)
        self._counts = _counters(self._head)
        self._mapped: dict[int, tuple[mmap.mmap, int]] = {}
        self.unreleased: deque[int] = deque()

    @property
    def token(self) -> bytes:
        """The token at the beginning of the file."""
        return self._head[:_TOKEN_BYTES]

    def map(self, handle: MessageHandle, n_bytes: int) -> Bytes:
        """Return the bytes of a message: uint8[n_bytes], read-only.

        Raises
        ------
        MemoryError
            The memory cannot be mapped.
        """
        memory, start = self._mapped.get(handle.extent) or self._map(handle.extent)
        mapped = _Mapped((n_bytes,), np.uint8, memory, handle.offset - start)
        mapped.peer, mapped.counter = self, handle.counter
        return mapped.view(np.ndarray)

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

    def release(self) -> None:
        """Increment the counters of the messages that have no view left in this process."""
        if not self.unreleased:
            return
        from hpcstream.kernels.counters import add_one

        counters = [self.unreleased.popleft() for _ in range(len(self.unreleased))]
        add_one(self._counts, np.array(counters, dtype=np.int64))


class Nearby(NamedTuple):
    """The ranks of a communicator that share messages in memory.

    Attributes
    ----------
    own : SharedMessages
        The messages of this rank.
    peers : mapping of int to Peer
        The files of the other ranks, by rank.
    """

    own: SharedMessages
    peers: Mapping[int, Peer]

    def within(self, members: tuple[int, ...]) -> Nearby | None:
        """Return the subset within ``members``, by their ranks there; None if it has no peer."""
        peers = {i: self.peers[rank] for i, rank in enumerate(members) if rank in self.peers}
        return Nearby(self.own, peers) if peers else None


def find_nearby(comm: Communicator, *, allowed: bool = True) -> Procedure[Nearby | None]:
    """Return the ranks that can share memory with this one. Collective; yields while waiting.

    They run on one host, as one user, and see each other's processes. All other ranks, and
    those that are not ``allowed``, send their messages.
    """
    for known in _known.values():
        known.release()
    messages = _own_messages() if allowed and comm.size > 1 else None
    own = messages.locator() if messages else b""
    locators = yield from gather_bytes(comm, own)
    peers = {}
    for rank, locator in enumerate(locators):
        peer = _peer_of(locator, own) if own and locator and rank != comm.rank else None
        if peer is not None:
            peers[rank] = peer
    answers = yield from gather_bytes(comm, json.dumps(list(peers)).encode())
    mutual = {rank: peer for rank, peer in peers.items() if comm.rank in json.loads(answers[rank])}
    return Nearby(messages, mutual) if messages and mutual else None


def trim() -> None:
    """Release messages without views, and return unused memory to the system.

    Called at the end of a job, as is `BufferPool.trim`.
    """
    for peer in _known.values():
        peer.release()
    own = _own_messages() if _own_messages.cache_info().currsize else None
    if own is not None:
        own.trim()


@functools.cache
def _own_messages() -> SharedMessages | None:
    """Return the shared messages of this process; None if the system does not support them."""
    from hpcstream.kernels.counters import IS_ATOMIC

    if not IS_ATOMIC:
        return None
    try:
        own = SharedMessages(process_pool().node)
        own.locator()
    except (AttributeError, OSError):
        return None
    return own


_known: dict[str, Peer] = {}
"""Peers by token. They outlive a job, so that the next one releases what it still had mapped."""


def _peer_of(locator: bytes, own: bytes) -> Peer | None:
    boot, process, number, token = json.loads(locator)
    if boot != json.loads(own)[0]:
        return None
    if token not in _known:
        path = f"/proc/{process}/fd/{number}"
        try:
            if not os.readlink(path).startswith("/memfd:hpcstream"):
                return None  # another process with this number, in another namespace
            peer = Peer(path)
        except OSError:
            return None
        if peer.token.hex() != token:
            return None
        _known[token] = peer
    return _known[token]


def _counters(head: mmap.mmap) -> npt.NDArray[np.int64]:
    return np.frombuffer(head, dtype=np.int64, count=MAX_SHARED, offset=_COUNTERS_AT)
