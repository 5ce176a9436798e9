"""Arenas: private anonymous memory on huge pages, bound to one NUMA node.

An arena is one mapping. Blocks are cut from its front one after another and keep their
size for its lifetime. It has no ``close``: every array in it refers to the mapping, which is
unmapped when its last view has died and the pool has dropped it.
"""

import errno
import mmap
import os
from typing import TYPE_CHECKING

import numpy as np

from hpcstream.memory.syscalls import SystemCalls

if TYPE_CHECKING:
    from collections.abc import Callable

    ArenaFactory = Callable[[int], "Arena"]
    """Returns an arena of at least this number of bytes, or raises `MemoryError`."""

HUGE_PAGE = 2 << 20
_SMALL_PAGE = 4096


class Arena:
    """One mapping, aligned to a huge page, and a cursor up to which it is cut into blocks.

    Attributes
    ----------
    memory : mmap
        The mapping. NumPy arrays built on it keep it alive.
    start : int
        Offset in ``memory`` of the first aligned byte.
    address : int
        Address of that byte.
    n_bytes : int
        Usable bytes from ``start``.
    touch : bool
        The kernel places a page on the node of its first writer, so the owner must touch each
        block before it returns it.
    """

    __slots__ = ("address", "cursor", "memory", "n_blocks", "n_bytes", "start", "touch")

    def __init__(
        self,
        memory: mmap.mmap,
        n_bytes: int,
        *,
        touch: bool = False,
        alignment: int = HUGE_PAGE,
    ) -> None:
        address = int(np.frombuffer(memory, np.uint8, 1).ctypes.data)
        self.memory = memory
        self.start = -address % alignment
        self.address = address + self.start
        self.n_bytes = n_bytes
        self.touch = touch
        self.cursor = 0
        self.n_blocks = 0

    @property
    def room(self) -> int:
        """Bytes that are not cut into blocks yet."""
        return self.n_bytes - self.cursor

    def cut(self, n_bytes: int) -> int:
        """Cut off a block and return its offset in ``memory``."""
        assert n_bytes <= self.room, "the arena has no room for the block"
        offset = self.start + self.cursor
        self.cursor += n_bytes
        self.n_blocks += 1
        if self.touch:
            block = np.frombuffer(self.memory, np.uint8, n_bytes, offset)
            block[::_SMALL_PAGE] = 0
        return offset


class ArenaMapper:
    """Maps arenas, on huge pages and bound to a node if the kernel allows it.

    If the kernel refuses one of them, the mapper adds a note and does not try again. If it
    refuses to bind, the owner touches the pages first, which places them on its node.

    Parameters
    ----------
    node : int or None
        The node of the pages; None: that of their first writer.

    Attributes
    ----------
    notes : list of str
        What the kernel refused and the consequence, one sentence each.
    """

    def __init__(self, node: int | None = None, calls: SystemCalls | None = None) -> None:
        self.node = node
        self.notes: list[str] = []
        self._calls = calls or SystemCalls()
        self._may_bind = node is not None
        self._may_use_huge_pages = hasattr(mmap, "MADV_HUGEPAGE")

    def __call__(self, n_bytes: int) -> Arena:
        """Return a new arena of at least ``n_bytes``.

        Raises
        ------
        MemoryError
            The system has no room for it, or ``ulimit -v`` forbids it.
        """
        n_bytes += -n_bytes % HUGE_PAGE
        try:
            arena = self._map(n_bytes)
        except OSError as error:
            raise MemoryError(f"no room for an arena of {n_bytes:,} bytes: {error}") from error
        self._advise(arena)
        self._bind(arena)
        arena.touch = self.node is not None and not self._may_bind
        return arena

    def _map(self, n_bytes: int) -> Arena:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        return Arena(mmap.mmap(-1, n_bytes + HUGE_PAGE, flags=flags), n_bytes)

    def _advise(self, arena: Arena) -> None:
        if not self._may_use_huge_pages:
            return
        try:
            arena.memory.madvise(mmap.MADV_HUGEPAGE, arena.start, arena.n_bytes)
        except OSError as error:
            self._may_use_huge_pages = False
            self.notes.append(
                f"huge pages are not available ({os.strerror(error.errno or 0)}): "
                "memory is in 4 KiB pages, which is slower for large state"
            )

    def _bind(self, arena: Arena) -> None:
        if not self._may_bind or self.node is None:
            return
        try:
            self._calls.bind_preferred(arena.address, arena.n_bytes, self.node)
        except OSError as error:
            self._may_bind = False
            self.notes.append(
                f"memory cannot be bound to node {self.node} ({error.strerror}){_advice(error)}; "
                "it is placed by first touch instead"
            )


def _advice(error: OSError) -> str:
    if error.errno == errno.EPERM:
        return " because the container forbids it (allow mbind, e.g. docker --cap-add SYS_NICE)"
    if error.errno == errno.EINVAL:
        return " because the cgroup has no memory there"
    return ""
