"""Arenas that other processes of the host can read: extents of a file in memory.

::

    file     | head | extent | extent | hole (freed) | extent | ...
    owner      maps each extent once, and cuts blocks from it as from any arena
    others     open the file as /proc/<pid>/fd/<number> and map extents by their number

The file has no name and is in no file system (`memfd_create`), so the size of ``/dev/shm``
does not limit it, and it disappears with its processes.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from hpcstream.memory.arena import HUGE_PAGE, Arena, ArenaMapper

_PAGE = mmap.PAGESIZE
_UNIT_BITS = HUGE_PAGE.bit_length() - 1
_MAP_FIXED = 0x10  # of Linux, on every processor that NumPy and Numba have wheels for
_LENGTH_BITS = 24  # of an extent in huge pages, in its word


class Extent(NamedTuple):
    """A range of the file, both in bytes and multiples of a huge page."""

    start: int
    n_bytes: int

    @property
    def word(self) -> int:
        """The extent as a number below 2**63."""
        return self.start >> _UNIT_BITS << _LENGTH_BITS | self.n_bytes >> _UNIT_BITS

    @classmethod
    def of_word(cls, word: int) -> Extent:
        """Return the extent of a `word`."""
        length = word & ((1 << _LENGTH_BITS) - 1)
        return cls(word >> _LENGTH_BITS << _UNIT_BITS, length << _UNIT_BITS)


def map_extent(number: int, extent: Extent, protection: int) -> mmap.mmap:
    """Map a range of the file with descriptor ``number``.

    Python's `mmap` keeps a descriptor open for each mapping of a file. A hundred ranks may have
    dozens of extents each, but the limit may be 1,024 descriptors. So the file is mapped over
    an anonymous mapping, which Python then unmaps.

    Raises
    ------
    OSError
        There is no memory, or the descriptor does not allow it.
    """
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    memory = mmap.mmap(-1, extent.n_bytes, flags=flags, prot=protection)
    address = int(np.frombuffer(memory, np.uint8, 1).ctypes.data)
    flags = mmap.MAP_SHARED | _MAP_FIXED
    found = _libc_mmap()(address, extent.n_bytes, protection, flags, number, extent.start)
    if found != address:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return memory


def _libc_mmap() -> Callable[..., int]:
    function = ctypes.CDLL(None, use_errno=True).mmap
    function.restype = ctypes.c_void_p
    function.argtypes = [
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long
    ]  # fmt: skip
    return function


class SharedFile:
    """A file in memory that this process creates. It begins with a *head* of one huge page.

    Raises
    ------
    OSError
        The kernel does not support such files.
    """

    def __init__(self) -> None:
        self.number = os.memfd_create("hpcstream", os.MFD_CLOEXEC)
        self._end = 0
        self._free: defaultdict[int, list[int]] = defaultdict(list)
        self.head = self.map(self.extent(HUGE_PAGE))
        weakref.finalize(self, os.close, self.number)

    def extent(self, n_bytes: int) -> Extent:
        """Return an unused range of ``n_bytes``, which is a multiple of a huge page."""
        if self._free[n_bytes]:
            return Extent(self._free[n_bytes].pop(), n_bytes)
        os.ftruncate(self.number, self._end + n_bytes)
        extent = Extent(self._end, n_bytes)
        self._end += n_bytes
        return extent

    def map(self, extent: Extent) -> mmap.mmap:
        """Map a range, readable and writable."""
        return map_extent(self.number, extent, mmap.PROT_READ | mmap.PROT_WRITE)

    def free(self, extent: Extent) -> None:
        """Reuse a range whose memory has been returned to the system."""
        self._free[extent.n_bytes].append(extent.start)


class SharedArena(Arena):
    """An arena on an extent of a `SharedFile`, which it frees when it dies."""

    __slots__ = ("extent", "file")

    def __init__(self, file: SharedFile, n_bytes: int) -> None:
        self.file = file
        self.extent = file.extent(n_bytes)
        super().__init__(file.map(self.extent), n_bytes, alignment=_PAGE)

    def __del__(self) -> None:
        # No block is left, so no process reads it; those that have it mapped see zeros.
        try:
            self.memory.madvise(mmap.MADV_REMOVE)
        except (AttributeError, OSError, ValueError):
            return
        self.file.free(self.extent)


class SharedArenaMapper(ArenaMapper):
    """Maps arenas on a `SharedFile`, otherwise as `ArenaMapper` does.

    The system has a separate setting for huge pages in shared memory, which is usually off.
    """

    def __init__(self, file: SharedFile, node: int | None = None) -> None:
        super().__init__(node)
        self.file = file

    def _map(self, n_bytes: int) -> Arena:
        return SharedArena(self.file, n_bytes)
