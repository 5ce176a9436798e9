"""The entries of segments in the order of their key groups, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hpcstream.columns.ownership import N_KEY_GROUPS, KeyGroups
from hpcstream.columns.selection import gather
from hpcstream.kernels import snapshots
from hpcstream.state.arrays import Ints, Slots
from hpcstream.state.table import Order

_KERNEL_BYTES = (1, 2, 4, 8)


def positions_in_order(groups: KeyGroups, counts: Ints) -> Slots:
    """Return, for entries in the order of key groups, the position of each in its segment."""
    positions: Slots = np.empty(len(groups), dtype=np.uint32)
    snapshots.order_by_group(groups, counts, np.empty(N_KEY_GROUPS + 1, np.int64), positions)
    return positions


def entries_at(positions: Slots, counts: Ints) -> Slots:
    """Return the number, through all segments, of the entry at a position of its segment."""
    if len(counts) < 2:
        return positions
    starts = (np.cumsum(counts) - counts).astype(np.uint32)
    return positions + np.repeat(starts, counts)


def in_group_order(
    arrays: Mapping[str, npt.NDArray[Any]], groups: KeyGroups, counts: Ints, order: Order
) -> dict[str, npt.NDArray[Any]]:
    """Put the entries of segments into the order of key groups, in place.

    Parameters
    ----------
    arrays : mapping of str to array
        One value for each entry; changed in place, since their memory is prefaulted.
    groups : uint16[n_entries]
    counts : int64[n_segments]
        Entries of each segment.
    order : Order

    Returns
    -------
    dict
        The arrays, and those that ``order`` names.
    """
    positions = positions_in_order(groups, counts)
    entries = entries_at(positions, counts)
    for array in arrays.values():
        if array.ndim == 1 and array.dtype.kind != "V" and array.itemsize in _KERNEL_BYTES:
            array[:] = gather(array, entries)
        else:
            array[:] = array[entries]
    found = {**arrays, order.groups: gather(groups, entries[:: order.stride].copy())}
    return found | ({order.positions: positions} if order.positions else {})
