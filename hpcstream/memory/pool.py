"""Pools of buffers, which return to the pool when their last view dies.

::

    take(n) ──> array ──> slices, Arrow buffers, memoryviews, in any thread
      │           │ base
      │         lease ── dies with the last of them: the block returns to its free list
      │           │ base
    free list   mapping of the arena ── unmapped when pool and leases are gone

NumPy never skips the lease when it shortens chains of views, because a lease has another
type than the arrays on it. Sizes are quarters of powers of two, so at most a fifth of a
block is unused (up to 64 KiB powers of two: at most a half). Taking and returning blocks
needs no lock, since list operations are atomic.
"""

import functools
import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hpcstream.memory.arena import Arena, ArenaMapper
from hpcstream.memory.blocks import SHARED_BLOCK_BYTES, Block, BlockLease, FreeList, block_bytes
from hpcstream.memory.topology import read_topology

if TYPE_CHECKING:
    from hpcstream.memory.arena import ArenaFactory

ARENA_BYTES = 8 << 20
"""Size of an arena that blocks share; also the initial size of a pool."""

SPARE_BYTES = 32 << 20
"""Free memory above this is returned to the system."""

_TAKES_PER_LOOK = 4096
_OPEN_ARENAS = 4
_UINT8 = np.dtype(np.uint8)
_NDARRAY: type[NDArray[Any]] = np.ndarray


@dataclass(frozen=True)
class PoolStatistics:
    """Statistics of a pool, in bytes of blocks (slightly more than the buffers' sizes).

    Attributes
    ----------
    bytes_reserved : int
        Mapped by arenas; untouched pages occupy no memory.
    bytes_in_use : int
        Of blocks with live views.
    bytes_free : int
        Of blocks in the free lists.
    takes : int
        Number of buffers taken; approximate if several threads take buffers.
    grown : int
        Arenas mapped because no block fitted, after the first.
    unmapped : int
        Arenas returned to the system.
    """

    name: str
    node: int | None
    bytes_reserved: int
    bytes_in_use: int
    bytes_free: int
    arenas: int
    takes: int
    grown: int
    unmapped: int


class BufferPool:
    """Buffers on one NUMA node. The pool grows when it is empty; it never waits.

    Parameters
    ----------
    node : int or None
        NUMA node for its memory; None leaves it to the kernel.
    name : str
        Shown in statistics and errors.
    initial_bytes : int
        Size of the first arena, mapped at the first take.
    spare_bytes : int
        Free memory above this is returned to the system after it was idle for a while.
    arena_factory : (n_bytes) -> Arena
        By default an `ArenaMapper` on ``node``.
    """

    def __init__(
        self,
        *,
        node: int | None = None,
        name: str = "",
        initial_bytes: int = ARENA_BYTES,
        spare_bytes: int = SPARE_BYTES,
        arena_factory: "ArenaFactory | None" = None,
    ) -> None:
        self.name = name
        self.node = node
        self._make_arena = arena_factory or ArenaMapper(node)
        self._next_arena_bytes = initial_bytes
        self._spare_bytes = spare_bytes
        self._free: dict[int, FreeList] = {}
        self._arenas: list[Arena] = []
        self._open: list[Arena] = []  # shared arenas with room, the roomiest last
        self._lock = threading.RLock()  # a finalizer may take while this thread grows
        self._takes = 0
        self._grown = 0
        self._n_unmapped = 0

    def __del__(self) -> None:
        for blocks in self._free.values():
            blocks.is_open = False
            blocks.clear()

    @property
    def notes(self) -> tuple[str, ...]:
        """What the system refused, such as binding; without duplicates."""
        return tuple(getattr(self._make_arena, "notes", ()))

    @property
    def arenas(self) -> tuple[Arena, ...]:
        """The current arenas, for inspection."""
        return tuple(self._arenas)

    def take(self, n_bytes: int) -> NDArray[np.uint8]:
        """Return a writable buffer, 64-byte aligned, with undefined content.

        It returns to the pool when its last view has died: arrays, memoryviews, Arrow buffers
        and all objects that refer to them, in any thread, also after the pool has died.

        Returns
        -------
        uint8[n_bytes]

        Raises
        ------
        MemoryError
            The system has no more memory.
        """
        return self._lease(n_bytes, n_bytes, _UINT8)

    def empty(self, n: int, dtype: DTypeLike) -> NDArray[Any]:
        """Return a writable array ``dtype[n]`` with undefined content. See `take`."""
        kind = np.dtype(dtype)
        if kind.hasobject:
            raise TypeError(f"a pool holds bytes, not Python objects; got dtype {kind}")
        return self._lease(n * kind.itemsize, n, kind)

    def zeros(self, n: int, dtype: DTypeLike) -> NDArray[Any]:
        """Return a writable array ``dtype[n]`` of zeros. See `take`."""
        array = self.empty(n, dtype)
        array.view(_UINT8).fill(0)
        return array

    def trim(self) -> None:
        """Unmap all arenas without views. Called at the end of a job."""
        with self._lock:
            self._unmap(keep_bytes=0, idle_since=self._takes + 1)

    def statistics(self) -> PoolStatistics:
        """Return what the pool holds now."""
        with self._lock:
            free = self._free_bytes()
            cut = sum(arena.cursor for arena in self._arenas)
            return PoolStatistics(
                name=self.name,
                node=self.node,
                bytes_reserved=sum(arena.n_bytes for arena in self._arenas),
                bytes_in_use=cut - free,
                bytes_free=free,
                arenas=len(self._arenas),
                takes=self._takes,
                grown=self._grown,
                unmapped=self._n_unmapped,
            )

    def _lease(self, n_bytes: int, n: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        if n < 0:  # for NumPy it would mean the rest of the arena
            raise ValueError(f"a buffer cannot have {n} elements")
        size = block_bytes(n_bytes)
        try:
            block = self._free[size].pop()
        except (KeyError, IndexError):
            block = self._find(size)
        self._takes = block.last_take = self._takes + 1
        try:
            lease = BlockLease((n,), dtype, block.memory, block.offset)
        except BaseException:
            block.home.append(block)
            raise
        lease.block = block
        if not self._takes % _TAKES_PER_LOOK:
            self._unmap_idle()
        return lease.view(_NDARRAY)

    def _find(self, size: int) -> Block:
        with self._lock:
            return self._take_larger(size) or self._cut(size)

    def _take_larger(self, size: int) -> Block | None:
        """Return a free block of up to twice the size, so that drifting sizes do not add memory."""
        candidate = size
        while candidate <= 2 * size:
            try:
                return self._free[candidate].pop()
            except (KeyError, IndexError):
                candidate = block_bytes(candidate + 1)
        return None

    def _cut(self, size: int) -> Block:
        home = self._free.setdefault(size, FreeList())
        arena = next((arena for arena in self._open if arena.room >= size), None)
        arena = arena or self._grow(size)
        return Block(arena, arena.cut(size), home)

    def _grow(self, size: int) -> Arena:
        self._unmap(keep_bytes=self._spare_bytes, idle_since=self._takes + 1)
        is_shared = size <= SHARED_BLOCK_BYTES
        try:
            arena = self._make_arena(max(size, self._next_arena_bytes) if is_shared else size)
        except MemoryError as error:
            error.add_note(f"in {self._described()}; use smaller batches or fewer ranks a host")
            raise
        self._grown += bool(self._arenas)
        self._arenas.append(arena)
        if is_shared:
            self._next_arena_bytes = ARENA_BYTES
            self._open.append(arena)
            self._open.sort(key=lambda arena: arena.room)
            del self._open[:-_OPEN_ARENAS]
        return arena

    def _unmap_idle(self) -> None:
        with self._lock:
            self._unmap(self._spare_bytes, self._takes - _TAKES_PER_LOOK)

    def _unmap(self, keep_bytes: int, idle_since: int) -> None:
        """Unmap free arenas, longest idle first, until only ``keep_bytes`` are free.

        Only arenas without a take after number ``idle_since``.
        """
        excess = self._free_bytes() - keep_bytes
        if excess <= 0:
            return
        free = self._collect_free()
        last_take = {id(block.arena): 0 for block in free}
        for block in free:
            last_take[id(block.arena)] = max(last_take[id(block.arena)], block.last_take)
        n_free = Counter(id(block.arena) for block in free)
        idle = [
            arena
            for arena in self._arenas
            if n_free[id(arena)] == arena.n_blocks > 0 and last_take[id(arena)] <= idle_since
        ]
        gone: set[int] = set()
        for arena in sorted(idle, key=lambda arena: last_take[id(arena)]):
            if excess <= 0:
                break
            excess -= arena.cursor
            gone.add(id(arena))
        self._drop(gone)
        for block in free:
            if id(block.arena) not in gone:
                block.home.append(block)

    def _collect_free(self) -> list[Block]:
        """Take all free blocks, one by one, so that no other thread can take them.

        The order is that of the free lists, which are stacks: the longest unused first.
        """
        free: list[Block] = []
        for blocks in self._free.values():
            found = []
            for _ in range(len(blocks)):
                try:
                    found.append(blocks.pop())
                except IndexError:  # another thread took the last one
                    break
            free += reversed(found)
        return free

    def _drop(self, gone: set[int]) -> None:
        self._n_unmapped += len(gone)
        self._arenas = [arena for arena in self._arenas if id(arena) not in gone]
        self._open = [arena for arena in self._open if id(arena) not in gone]

    def _free_bytes(self) -> int:
        return sum(size * len(blocks) for size, blocks in list(self._free.items()))

    def _described(self) -> str:
        held = self.statistics()
        return (
            f"buffer pool {self.name!r}: {held.bytes_in_use:,} bytes in use, "
            f"{held.bytes_free:,} free, {held.bytes_reserved:,} reserved"
        )


@functools.cache
def process_pool() -> BufferPool:
    """Return the pool of this process, on its NUMA node, made at the first call.

    If the process may run on several nodes, the kernel places each page on the node where the
    process runs when it first touches the page.
    """
    topology = read_topology()
    node = topology.home_node() if topology.is_numa else None
    return BufferPool(node=node, name="process")
