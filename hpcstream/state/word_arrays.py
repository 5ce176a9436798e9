"""The words of all slots of a `SliceStore`: by kernels those of one number, wide ones by NumPy.

A wide word is a row of an array of shape ``(slots, width)``. It lies in the arenas of its
slot like any other: it is given out, moved, merged and cleared with it; no slice is dense then,
since slots without rows would cost too much. A copy of it, as
snapshots hold it, is one record of bytes an entry, so that no reader of these need know of it.

A page that is touched for the first time costs many times the copy of what lies on it (the
kernel clears it; a virtual machine may have to ask its host for it), so arenas that grow are
to be copied seldom, and to be packed where they are. Address space costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hpcstream.kernels import key_regions, key_table, snapshots
from hpcstream.state.arrays import Allocator, Ints, Slots, Word, read_only
from hpcstream.state.book import Book, region_at

Values = npt.NDArray[Any]

_MANY_ENTRIES = 1 << 18
_ENTRIES_AHEAD = 1 << 23  # address space of 64 MiB an array
_NARROW_BYTES = 64
"""What an entry without wide words takes, about."""


def entries_of_size(words: Sequence[Word], n_entries: int) -> int:
    """Return how many entries with these words take the memory of so many without a wide one."""
    n_bytes = sum(word.kind.itemsize for word in words if word.width > 1)
    return max(n_entries * _NARROW_BYTES // max(n_bytes, _NARROW_BYTES), 16)


def clear_words(book: Book, rows: Ints, regions: Ints, word: Word, array: Values) -> None:
    """Set the word of the slots of regions to that of a new entry."""
    if word.width == 1:
        key_regions.clear_slots(book, regions, word.bits, array.view(np.int64))
    else:
        array[_slots_of(book, rows, regions)] = word.identity


def copied(
    book: Book, rows: Ints, regions: Ints, array: Values, allocator: Allocator, n_entries: int
) -> Values:
    """Return a copy of what the ``n_entries`` slots of regions hold, an item an entry."""
    if array.ndim == 1:
        copy = allocator.empty(n_entries, array.dtype)
        snapshots.copy_regions(book, rows, regions, array.view(np.uint64), copy.view(np.uint64))
        return copy
    copy = allocator.empty(n_entries, np.dtype((np.void, array.itemsize * array.shape[1])))
    items = copy.view(array.dtype).reshape(-1, array.shape[1])
    np.take(array, _slots_of(book, rows, regions), axis=0, out=items, mode="clip")
    return copy


def _slots_of(book: Book, rows: Ints, regions: Ints) -> Slots:
    """Return the slots of regions, none of which is dense."""
    n_slots = int(book[region_at(regions) + key_table.COUNT].sum())
    slots = np.empty(n_slots + 1, dtype=np.uint32)
    key_regions.slots_of_regions(book, rows, regions, slots)
    return slots[:n_slots]


def items_of(copy: Values, array: Values) -> Values:
    """Return the items of a copy, as they are in the array of a word; read-only."""
    if array.ndim == 1:
        return read_only(copy)
    return read_only(np.ascontiguousarray(copy).view(array.dtype).reshape(-1, array.shape[1]))


def roomy(needed: int) -> int:
    """Return how many entries arenas are made for: if they are many, for many more to come."""
    return needed if needed < _MANY_ENTRIES else max(needed, _ENTRIES_AHEAD)


def carry(arrays: Sequence[Values], n_slots: int, grown: Sequence[Values]) -> None:
    """Copy the first slots of arenas to larger ones."""
    for array, target in zip(arrays, grown, strict=True):
        carried = array[:n_slots]
        target[: len(carried)] = carried


def move(
    arrays: Sequence[Values], old: Slots, packed: Sequence[Values], allocator: Allocator
) -> None:
    """Move what lies at ``old[i]`` in arenas to slot ``i + 1`` of others, or of the same."""
    for array, target in zip(arrays, packed, strict=True):
        moved = target[1 : len(old) + 1]
        if array is target:
            moved[:] = np.take(array, old, axis=0, out=allocator.empty(len(old), _kind(array)))
        else:
            np.take(array, old, axis=0, out=moved)


def _kind(array: Values) -> np.dtype[Any]:
    """Return the type of what an entry holds in an array, several numbers of a wide word."""
    return array.dtype if array.ndim == 1 else np.dtype((array.dtype, array.shape[1:]))
