"""Arrays that grow at their end, as pieces of a snapshot: full blocks stay as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hpcstream.state.arrays import Allocator
from hpcstream.state.snapshots import Piece, PieceGroup, Snapshot

BLOCK_BYTES = 1 << 19
"""So much of the array at most is written again although it has not changed."""


def in_blocks(
    name: str, array: npt.NDArray[Any], generation: int, allocator: Allocator
) -> PieceGroup:
    """Return the pieces of an array that grows at its end as long as ``generation`` is the same."""
    block = BLOCK_BYTES // array.itemsize
    starts = range(0, len(array), block)
    sizes = [min(block, len(array) - start) for start in starts]
    pieces = [
        Piece(f"{name}:{number}", f"{size}/{generation}", size) for number, size in enumerate(sizes)
    ]

    def copies(places: npt.NDArray[np.int64]) -> Snapshot:
        copy = allocator.empty(sum(sizes[place] for place in places), array.dtype)
        done = 0
        for place in places:
            copy[done : done + sizes[place]] = array[starts[place] : starts[place] + sizes[place]]
            done += sizes[place]
        return {name: copy}

    return PieceGroup(pieces, copies)
