"""Memory for the next copy of the state, touched before rounds stand still for it.

::

    begin      copies are taken from the pool; background writes them
    written    their blocks stay in the reserve
    later      the state is looked at; background takes what is missing and touches it
    begin      an operator's blocks go back to the pool, just before its copies are taken from it:
               the pool does not keep for long what lies free

Fresh memory costs several times the copy itself: the kernel has to find and clear
each page at its first touch.
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
"""Memory for so many times the state as it is: it may grow until the cut."""

_LEAST_BYTES = 1 << 20  # below that a first touch does not matter
_PAGE = 4096


class Reserve:
    """Blocks of a pool that wait for the next checkpoint.

    Methods may be called by the rounds' thread and by the background's, one at a time each.
    """

    def __init__(self, pool: BufferPool) -> None:
        self._pool = pool
        self._held: dict[str, list[Array]] = {}  # by the path of an operator

    def keep(self, path: str, arrays: Iterable[Array]) -> None:
        """Hold the blocks of copies that are written; arrays that are no block's are let go."""
        self._held.setdefault(path, []).extend(
            one for one in arrays if one.nbytes >= _LEAST_BYTES and isinstance(one.base, BlockLease)
        )

    def release(self, path: str) -> None:
        """Give the blocks for an operator back to the pool, where its copies find them."""
        self._held.pop(path, None)

    def fill(self, wanted: Mapping[str, Sequence[int]]) -> None:
        """Hold blocks for arrays of these sizes, every page touched; what is too much goes.

        A release meanwhile gets those that are ready, and ends it for that operator.
        """
        spare = [one for blocks in self._held.values() for one in blocks]
        spare.sort(key=lambda one: one.nbytes)
        held: dict[str, list[Array]] = {path: [] for path in wanted}
        self._held = held
        missing = []
        for path, sizes in wanted.items():
            for size in sorted(sizes):
                place = next((i for i, one in enumerate(spare) if _fits(size, one)), None)
                if place is None:
                    missing.append((path, size))
                else:
                    held[path].append(spare.pop(place))
        del spare
        for path, size in missing:
            blocks = held.get(path)
            if blocks is not None:
                blocks.append(self._touched(size))

    def covers(self, wanted: Mapping[str, Sequence[int]]) -> bool:
        """Whether arrays of these sizes would find blocks; while nothing is filled."""
        for path, sizes in wanted.items():
            held = sorted(self._held.get(path, ()), key=lambda one: one.nbytes)
            for size in sorted(sizes):
                place = next((i for i, one in enumerate(held) if _fits(size, one)), None)
                if place is None:
                    return False
                held.pop(place)
        return True

    def _touched(self, size: int) -> Array:
        block = self._pool.take(size)
        block[::_PAGE] = 0
        return block


def _fits(size: int, block: Array) -> bool:
    """Whether the pool would hand out a block for so many bytes."""
    return size <= block.nbytes <= 2 * size


def wanted_sizes(
    tables: Sequence[StateTable], known: Known, headroom: float = HEADROOM
) -> list[int]:
    """Return the sizes of the arrays that a copy of the unknown segments will need, and some more.

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
        n_entries = sum(one.n_entries for one in table.segments() if not is_known(one, of_table))
        arrays = table.copy(np.empty(0, dtype=np.int64)).arrays
        sizes += [int(headroom * n_entries) * array.itemsize for array in arrays.values()]
    return [size for size in sizes if size >= _LEAST_BYTES]
