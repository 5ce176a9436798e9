"""The words of all slots of a `SliceStore`: kernels handle single numbers, NumPy wide words.

A wide word is a row of an array of shape ``(slots, width)``. Like any word it is allocated,
moved, merged and cleared with its slot; no slice is dense then, since slots without rows
would cost too much. Snapshots hold it as one record of bytes per entry, so that readers
need not know about wide words.

The first touch of a page costs many times a copy of its contents (the operating system
clears it, and a virtual machine may have to get it from its host). Growing arenas are
therefore copied seldom and packed in place. Address space costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hpcstream.kernels import key_regions, key_table, snapshots
from hpcstream.state.arrays import Allocator, Ints, Slots, Word, read_only
from hpcstream.state.header import Header, region_at

Values = npt.NDArray[Any]

_MANY_ENTRIES = 1 << 18
_ENTRIES_AHEAD = 1 << 23  # address space of 64 MiB an array
_NARROW_BYTES = 64
"""Approximate size of an entry without wide words."""


def entries_of_size(words: Sequence[Word], n_entries: int) -> int:
    """Return how many entries with these words take as much memory as ``n_entries`` narrow ones."""
    n_bytes = sum(word.kind.itemsize for word in words if word.width > 1)
    return max(n_entries * _NARROW_BYTES // max(n_bytes, _NARROW_BYTES), 16)


def clear_words(header: Header, rows: Ints, regions: Ints, word: Word, array: Values) -> None:
    """Reset one word of all slots of regions to its identity."""
    if word.width == 1:
        key_regions.clear_slots(header, regions, word.bits, array.view(np.int64))
    else:
        array[_slots_of(header, rows, regions)] = word.identity


def copied(
    header: Header, rows: Ints, regions: Ints, array: Values, allocator: Allocator, n_entries: int
) -> Values:
    """Return a copy of the values of the ``n_entries`` slots of regions, one item per entry."""
    if array.ndim == 1:
        copy = allocator.empty(n_entries, array.dtype)
        snapshots.copy_regions(header, rows, regions, array.view(np.uint64), copy.view(np.uint64))
        return copy
    copy = allocator.empty(n_entries, np.dtype((np.void, array.itemsize * array.shape[1])))
    items = copy.view(array.dtype).reshape(-1, array.shape[1])
    np.take(array, _slots_of(header, rows, regions), axis=0, out=items, mode="clip")
    return copy


def _slots_of(header: Header, rows: Ints, regions: Ints) -> Slots:
    """Return the slots of regions, none of which is dense."""
    n_slots = int(header[region_at(regions) + key_table.COUNT].sum())
    slots = np.empty(n_slots + 1, dtype=np.uint32)
    key_regions.slots_of_regions(header, rows, regions, slots)
    return slots[:n_slots]


def items_of(copy: Values, array: Values) -> Values:
    """Return the items of a copy, as they are in the array of a word; read-only."""
    if array.ndim == 1:
        return read_only(copy)
    return read_only(np.ascontiguousarray(copy).view(array.dtype).reshape(-1, array.shape[1]))


def roomy(needed: int) -> int:
    """Return the capacity of arenas: large ones get room for many more entries."""
    return needed if needed < _MANY_ENTRIES else max(needed, _ENTRIES_AHEAD)


def carry(arrays: Sequence[Values], n_slots: int, grown: Sequence[Values]) -> None:
    """Copy the first slots of arenas to larger ones."""
    for array, target in zip(arrays, grown, strict=True):
        carried = array[:n_slots]
        target[: len(carried)] = carried


def move(
    arrays: Sequence[Values], old: Slots, packed: Sequence[Values], allocator: Allocator
) -> None:
    """Move the values at ``old[i]`` to slot ``i + 1``, of other arenas or of the same ones."""
    for array, target in zip(arrays, packed, strict=True):
        moved = target[1 : len(old) + 1]
        if array is target:
            moved[:] = np.take(array, old, axis=0, out=allocator.empty(len(old), _kind(array)))
        else:
            np.take(array, old, axis=0, out=moved)


def _kind(array: Values) -> np.dtype[Any]:
    """Return the type of an entry of an array: several numbers if the word is wide."""
    return array.dtype if array.ndim == 1 else np.dtype((array.dtype, array.shape[1:]))
