"""Blocks of an arena, the lists of free ones, and the lease that brings one back."""

from typing import Any

import numpy as np

from hpcstream.memory.arena import HUGE_PAGE, Arena

SHARED_BLOCK_BYTES = 2 << 20
"""Larger blocks have an arena each, so that each can be given back alone."""

_ALIGNMENT_BITS = 6
_SMALL_BYTES = 64 << 10


class FreeList(list["Block"]):
    """Free blocks of one size. Closed when the pool dies: nothing comes back then."""

    __slots__ = ("is_open",)

    def __init__(self) -> None:
        self.is_open = True


class Block:
    """A piece of an arena; it keeps its size and place until the arena goes.

    Attributes
    ----------
    memory, offset : mmap, int
        Where it is.
    home : FreeList
        Where it goes when its lease dies.
    last_take : int
        Number of the take that used it last; 0 for none.
    """

    __slots__ = ("arena", "home", "last_take", "memory", "offset")

    def __init__(self, arena: Arena, offset: int, home: FreeList) -> None:
        self.arena = arena
        self.memory = arena.memory
        self.offset = offset
        self.home = home
        self.last_take = 0


class BlockLease(np.ndarray[Any, Any]):
    """What every view of a block keeps alive. Never handed out itself."""

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
    """Return the size of the block that ``n_bytes`` are taken from.

    Multiples of 64; above 256 powers of two, so that small ones, of any size in each round,
    are found at the first look; above 64 KiB in quarters of powers of two; above
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
