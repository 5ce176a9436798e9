"""Memory for the next copy of the state, prefaulted before rounds stand still for it.

::

    begin      copies are taken from the pool; background writes them
    written    their blocks stay here
    later      the state is looked at; background takes the missing blocks and prefaults them
    begin      an operator's blocks go back to the pool just before its copies are taken from it:
               the pool does not keep free blocks for long

Fresh memory costs several times the copy itself: the kernel finds and clears each page at its
first touch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from hpcstream.checkpoint.format import Array
from hpcstream.checkpoint.increments import Known, is_known
from hpcstream.memory.blocks import BlockLease
from hpcstream.memory.pool import BufferPool
from hpcstream.state.table import StateTable

HEADROOM = 1.45
"""Memory for so many times the present state, which may grow until the checkpoint."""

_LEAST_BYTES = 1 << 20  # below that a first touch does not matter
_PAGE = 4096


class CopyBuffers:
    """Blocks of a pool that wait for the next checkpoint.

    The thread of the rounds and that of the background may call methods, one at a time each.
    """

    def __init__(self, pool: BufferPool) -> None:
        self._pool = pool
        self._held: dict[str, list[Array]] = {}  # by the path of an operator

    def keep(self, path: str, arrays: Iterable[Array]) -> None:
        """Hold the blocks of written copies; arrays that lie in no block are released."""
        self._held.setdefault(path, []).extend(
            array
            for array in arrays
            if array.nbytes >= _LEAST_BYTES and isinstance(array.base, BlockLease)
        )

    def release(self, path: str) -> None:
        """Give the blocks of an operator back to the pool, where its copies find them."""
        self._held.pop(path, None)

    def fill(self, wanted: Mapping[str, Sequence[int]]) -> None:
        """Hold prefaulted blocks for arrays of these sizes, and release all others.

        A `release` meanwhile frees the blocks that are ready, and ends the fill of that operator.
        """
        spare = [block for blocks in self._held.values() for block in blocks]
        spare.sort(key=lambda block: block.nbytes)
        held: dict[str, list[Array]] = {path: [] for path in wanted}
        self._held = held
        missing = []
        for path, sizes in wanted.items():
            for size in sorted(sizes):
                index = _first_fit(size, spare)
                if index is None:
                    missing.append((path, size))
                else:
                    held[path].append(spare.pop(index))
        del spare
        for path, size in missing:
            blocks = held.get(path)
            if blocks is not None:
                blocks.append(self._prefaulted(size))

    def covers(self, wanted: Mapping[str, Sequence[int]]) -> bool:
        """Whether arrays of these sizes would find blocks; not while a fill is under way."""
        for path, sizes in wanted.items():
            held = sorted(self._held.get(path, ()), key=lambda block: block.nbytes)
            for size in sorted(sizes):
                index = _first_fit(size, held)
                if index is None:
                    return False
                held.pop(index)
        return True

    def _prefaulted(self, size: int) -> Array:
        block = self._pool.take(size)
        block[::_PAGE] = 0
        return block


def _first_fit(size: int, blocks: Sequence[Array]) -> int | None:
    """Return the index of the first block that the pool would hand out for so many bytes."""
    fits = (i for i, block in enumerate(blocks) if size <= block.nbytes <= 2 * size)
    return next(fits, None)


def wanted_sizes(
    tables: Sequence[StateTable], known: Known, headroom: float = HEADROOM
) -> list[int]:
    """Return the sizes of the arrays that a copy of the unknown segments needs, with headroom.

    Parameters
    ----------
    known : mapping
        Segments that earlier checkpoints have.
    """
    sizes = []
    for table in tables:
        if not table.is_copied:
            continue
        of_table = known.get(table.name, {})
        unknown = [segment for segment in table.segments() if not is_known(segment, of_table)]
        n_entries = sum(segment.n_entries for segment in unknown)
        arrays = table.copy(np.empty(0, dtype=np.int64)).arrays
        sizes += [int(headroom * n_entries) * array.itemsize for array in arrays.values()]
    return [size for size in sizes if size >= _LEAST_BYTES]
