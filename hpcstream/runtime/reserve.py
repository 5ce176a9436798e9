"""Memory for the next copy of the state, touched before rounds stand still for it.

::

    begin      copies are taken from the pool; background writes them
    written    their blocks stay in the reserve
    later      the state is looked at; background takes what is missing and touches it
    begin      the reserve goes back to the pool, just before the copies are taken from it

Fresh memory costs several times the copy itself: the kernel has to find and clear
each page at its first touch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hpcstream.checkpoint.format import Array
from hpcstream.memory.blocks import Lease
from hpcstream.memory.pool import BufferPool
from hpcstream.operators.base import PiecewiseSnapshot
from hpcstream.runtime.pieces import is_known

PREPARE_AT = (0.5, 0.7, 0.9)
"""Parts of the interval after which memory for the next checkpoint is prepared: it may grow."""

_HEADROOM = 1.45  # the state may grow until the cut
_LEAST_BYTES = 1 << 20  # below that a first touch does not matter
_PAGE = 4096


class Reserve:
    """Blocks of a pool that wait for the next checkpoint.

    Methods may be called by the rounds' thread and by the background's, one at a time each.
    """

    def __init__(self, pool: BufferPool) -> None:
        self._pool = pool
        self._held: list[Array] = []

    def keep(self, arrays: Iterable[Array]) -> None:
        """Hold the blocks of copies that are written; arrays that are no block's are let go."""
        self._held += [
            one for one in arrays if one.nbytes >= _LEAST_BYTES and isinstance(one.base, Lease)
        ]

    def release(self) -> None:
        """Give all blocks back to the pool, where the copies find them."""
        self._held = []

    def fill(self, sizes: Sequence[int]) -> None:
        """Hold blocks for arrays of these sizes, every page touched; what is too much goes.

        A release meanwhile gets those that are ready, and ends it.
        """
        spare = sorted(self._held, key=lambda one: one.nbytes)
        held: list[Array] = []
        self._held = held
        missing = []
        for size in sorted(sizes):
            fitting = [place for place, one in enumerate(spare) if size <= one.nbytes <= 2 * size]
            if fitting:
                held.append(spare.pop(fitting[0]))
            else:
                missing.append(size)
        del spare
        for size in missing:
            block = self._touched(size)
            if self._held is not held:
                return
            held.append(block)

    def _touched(self, size: int) -> Array:
        block = self._pool.take(size)
        block[::_PAGE] = 0
        return block


def wanted_sizes(snapshot: PiecewiseSnapshot, known: Mapping[str, Any]) -> list[int]:
    """Return the sizes of the arrays that a copy of the unknown pieces will need, and some more.

    Parameters
    ----------
    known : mapping
        Pieces by name that earlier checkpoints have, each with its ``version``.
    """
    n_entries = sum(one.n_entries for one in snapshot.pieces if not is_known(one, known))
    arrays = snapshot.copies(np.empty(0, dtype=np.int64))
    sizes = [int(_HEADROOM * n_entries) * array.itemsize for array in arrays.values()]
    return [size for size in sizes if size >= _LEAST_BYTES]
