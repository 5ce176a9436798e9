"""Arenas that other processes of the host can read: extents of a file that is in memory only.

::

    file     | head | extent | extent | hole, given back | extent | ...
    owner      maps each extent once, and cuts blocks from it as from any arena
    others     open the file as /proc/<pid>/fd/<number> and map the extents they are told of

The file has no name and lies in no file system (`memfd_create`), so that neither the size
of ``/dev/shm`` bounds it, nor does anything of it stay when its processes are gone.
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
    """Map a range of the file with this descriptor.

    Python's own mapping of a file keeps a descriptor each. There may be dozens of extents of
    a hundred ranks, and no more than 1,024 descriptors: so the file is mapped over one of
    anonymous memory, which Python then unmaps.

    Raises
    ------
    OSError
        There is no room, or the descriptor does not allow it.
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
    """A file in memory, made by this process. It begins with a *head*, one huge page.

    Raises
    ------
    OSError
        The kernel makes no such file.
    """

    def __init__(self) -> None:
        self.number = os.memfd_create("hpcstream", os.MFD_CLOEXEC)
        self._end = 0
        self._free: defaultdict[int, list[int]] = defaultdict(list)
        self.head = self.map(self.extent(HUGE_PAGE))
        weakref.finalize(self, os.close, self.number)

    def extent(self, n_bytes: int) -> Extent:
        """Return a range of so many bytes, a multiple of a huge page, that nobody uses."""
        if self._free[n_bytes]:
            return Extent(self._free[n_bytes].pop(), n_bytes)
        os.ftruncate(self.number, self._end + n_bytes)
        extent = Extent(self._end, n_bytes)
        self._end += n_bytes
        return extent

    def map(self, extent: Extent) -> mmap.mmap:
        """Map a range, to read and to write."""
        return map_extent(self.number, extent, mmap.PROT_READ | mmap.PROT_WRITE)

    def give_back(self, extent: Extent) -> None:
        """Take back a range whose memory the system has already."""
        self._free[extent.n_bytes].append(extent.start)


class SharedArena(Arena):
    """An arena on an extent of a `SharedFile`, which it gives back when it goes."""

    __slots__ = ("extent", "file")

    def __init__(self, file: SharedFile, n_bytes: int) -> None:
        self.file = file
        self.extent = file.extent(n_bytes)
        super().__init__(file.map(self.extent), n_bytes, alignment=_PAGE)

    def __del__(self) -> None:
        # No block is left, so nobody reads it: others may have it mapped, and see zeros.
        try:
            self.memory.madvise(mmap.MADV_REMOVE)
        except (AttributeError, OSError, ValueError):
            return
        self.file.give_back(self.extent)


class SharedArenaMapper(ArenaMapper):
    """Map arenas as `ArenaMapper` does, on a `SharedFile`.

    The system's setting for huge pages in shared memory is another than that for private
    memory, and mostly off.
    """

    def __init__(self, file: SharedFile, node: int | None = None) -> None:
        super().__init__(node)
        self.file = file

    def _map(self, n_bytes: int) -> Arena:
        return SharedArena(self.file, n_bytes)
