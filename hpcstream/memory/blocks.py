"""Blocks of arenas, their free lists, and leases that return a block when it is unused."""

from typing import Any

import numpy as np

from hpcstream.memory.arena import HUGE_PAGE, Arena

SHARED_BLOCK_BYTES = 2 << 20
"""Larger blocks have an arena of their own, so that each can be unmapped separately."""

_ALIGNMENT_BITS = 6
_SMALL_BYTES = 64 << 10


class FreeList(list["Block"]):
    """Free blocks of one size. Closed when the pool dies: no block returns afterwards."""

    __slots__ = ("is_open",)

    def __init__(self) -> None:
        self.is_open = True


class Block:
    """A range of an arena; its size and offset never change.

    Attributes
    ----------
    memory, offset : mmap, int
        The mapping, and the offset in it.
    home : FreeList
        The free list that it returns to when its lease dies.
    last_take : int
        Number of the take that used it last; 0 if there was none.
    """

    __slots__ = ("arena", "home", "last_take", "memory", "offset")

    def __init__(self, arena: Arena, offset: int, home: FreeList) -> None:
        self.arena = arena
        self.memory = arena.memory
        self.offset = offset
        self.home = home
        self.last_take = 0


class BlockLease(np.ndarray[Any, Any]):
    """The base of all views of a block; its death returns the block to the free list."""

    __slots__ = ("block",)
    block: Block

    def __del__(self) -> None:
        try:
            block = self.block
        except AttributeError:  # a view of a lease, not the lease
            return
        if block.home.is_open:
            block.home.append(block)


def block_bytes(n_bytes: int) -> int:
    """Return the size of the block for a buffer of ``n_bytes``.

    A multiple of 64; above 256 a power of two, so that free blocks are found quickly although
    small sizes vary in each round; above 64 KiB quarters of powers of two; above
    `SHARED_BLOCK_BYTES` whole huge pages.
    """
    bits = _ALIGNMENT_BITS
    if n_bytes > _SMALL_BYTES:
        bits = (n_bytes - 1).bit_length() - 3
    elif n_bytes > 256:
        bits = (n_bytes - 1).bit_length()
    step = 1 << bits
    if n_bytes > SHARED_BLOCK_BYTES and step < HUGE_PAGE:
        step = HUGE_PAGE
    return (n_bytes + step - 1) & -step or step
