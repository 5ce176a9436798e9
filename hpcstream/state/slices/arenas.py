"""The arrays that all slices share: their growth, packing and size.

Unused slots hold no rows and the words of a new entry. Slot 0 belongs to no entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hpcstream.kernels import key_regions, key_table
from hpcstream.state.arrays import Allocator, Ints, Slots, Word
from hpcstream.state.header import Header, kept_capacity, resized_header
from hpcstream.state.word_arrays import carry, entries_of_size, move, roomy

LEAST_ENTRIES = 1 << 12
_SPARE_ENTRIES = 1 << 14  # garbage below this is not worth packing


class SliceArenas:
    """The header, index, keys, rows and words of the table of `hpcstream.kernels.key_table`.

    Parameters
    ----------
    header : int64[]
        Of a table without slices.
    words : sequence of Word
        The accumulators of an entry.
    allocator : Allocator

    Attributes
    ----------
    header, index, keys
        The arrays that kernels of the table take. Each is replaced when it grows.
    rows : int64[capacity]
        Number of rows of each slot.
    words : list of dtype[capacity]
        The accumulators of each slot.
    word_types : tuple of Word
    is_wide : bool
        Whether an accumulator has more than one number.
    allocator : Allocator
    """

    def __init__(self, header: Header, words: Sequence[Word], allocator: Allocator) -> None:
        self.header = header
        self.allocator = allocator
        self.word_types = tuple(words)
        self.is_wide = any(word.width > 1 for word in words)
        self.keys: Ints = allocator.empty(0, np.int64)
        self.rows: Ints = allocator.empty(0, np.int64)
        self.words: list[npt.NDArray[Any]] = [allocator.empty(0, w.kind) for w in words]
        self.index: Slots = allocator.empty(key_table.FIRST_INDEX, np.uint32)
        self.index[:] = 0
        self._n_touched = 0
        self._spare_entries = entries_of_size(words, _SPARE_ENTRIES)
        self.least_entries = entries_of_size(words, LEAST_ENTRIES)
        self.grow_entries(self.least_entries, self.least_entries)

    @property
    def table(self) -> tuple[Header, Slots, Ints, Ints]:
        """The arguments ``header, index, keys, rows`` of kernels."""
        return self.header, self.index, self.keys, self.rows

    @property
    def arrays(self) -> list[npt.NDArray[Any]]:
        """Keys, rows and words: what is indexed by slots."""
        return [self.keys, self.rows, *self.words]

    @property
    def slots_end(self) -> int:
        """A bound: all slots are less."""
        return int(self.header[key_table.ENTRY_END])

    @property
    def n_entries(self) -> int:
        """Number of open (slice, key) pairs."""
        return int(self.header[key_table.N_LIVE])

    @property
    def n_regions(self) -> int:
        """Number of open slices and merged regions."""
        return int(self.header[key_table.N_OPEN])

    @property
    def n_bytes(self) -> int:
        """Bytes of state; arrays indexed by slots count up to the last slot ever touched."""
        touched = (array[: self._n_touched] for array in self.arrays)
        return self.header.nbytes + self.index.nbytes + sum(array.nbytes for array in touched)

    @property
    def is_sparse(self) -> bool:
        """Whether less than a third of the allocated slots is in use."""
        header = self.header
        in_use = max(header[key_table.N_HELD], header[key_table.PEAK_HELD])
        return bool(header[key_table.ENTRY_END] > 3 * in_use + self._spare_entries)

    def held_slots(self) -> Slots:
        """Return the slots that regions hold, region by region; `pack` must follow."""
        slots = np.empty(int(self.header[key_table.N_HELD]), dtype=np.uint32)
        key_regions.held_slots(self.header, slots)
        return slots

    def pack(self, old: Slots) -> None:
        """Compact the entries and rebuild their regions: slot ``old[i]`` becomes ``i + 1``."""
        n_slots = len(old)
        needed = 2 * max(n_slots, int(self.header[key_table.PEAK_HELD])) + self._spare_entries
        arrays = packed = self.arrays
        if needed > len(self.keys) or self._n_touched > 4 * needed:
            packed = self._empty_arrays(needed)
        move(arrays, old, packed, self.allocator)
        self.keys, self.rows, *self.words = packed
        self._open_up(n_slots + 1, 2 * n_slots + self._spare_entries)
        size = self.index_size(int(self.header[key_table.DIRECT_BITS]))
        self.grow_index(kept_capacity(len(self.index), size), keep=False)
        if self.header[key_table.CHUNK_CAPACITY] < self.n_regions:
            self.resize_header(chunks=2 * self.n_regions)
        key_table.relocate(self.header, self.index, self.keys)

    def more_entries(self, size: int) -> None:
        """Make at least ``size`` more slots available."""
        opened, capacity = int(self.header[key_table.ENTRY_CAPACITY]), len(self.keys)
        if self.slots_end + size > capacity:
            self.grow_entries(2 * capacity + size, size)
        else:
            self._open_up(opened, self.slots_end + max(size, opened >> 2))

    def grow_entries(self, capacity: int, size: int) -> None:
        """Enlarge keys, rows and words; make ``size`` more slots, or a quarter, available."""
        end, arrays, grown = self.slots_end, self.arrays, self._empty_arrays(capacity)
        carry(arrays, end, grown)
        self.keys, self.rows, *self.words = grown
        self._open_up(min(end, len(arrays[0])), end + max(size, end >> 2))

    def _open_up(self, start: int, stop: int) -> None:
        """Make slot 0, and the slots from ``start`` to ``stop``, new, and these available.

        Slots from ``stop`` on are not touched, so that the system does not allocate their pages.
        """
        stop = min(stop, len(self.keys))
        self.rows[:1] = self.rows[start:stop] = 0
        for word, array in zip(self.word_types, self.words, strict=True):
            array[:1] = array[start:stop] = word.identity
        self.header[key_table.ENTRY_CAPACITY] = stop
        self._n_touched = max(self._n_touched, stop)

    def _empty_arrays(self, needed: int) -> list[npt.NDArray[Any]]:
        self._n_touched = 0
        capacity = needed if self.is_wide else roomy(needed)
        kinds = [self.keys.dtype, self.rows.dtype, *(word.kind for word in self.word_types)]
        return [self.allocator.empty(capacity, kind) for kind in kinds]

    def index_size(self, bits: int, more_regions: int = 0, more_entries: int = 0) -> int:
        """Return the size of an index for what is open, this many more, and a little more.

        ``bits`` is the binary logarithm of its width if it is direct, 0 if it is hashed.
        """
        n_regions, n_entries = self.n_regions + more_regions, self.n_entries + more_entries
        if bits:
            return ((n_regions + 2) << bits) + LEAST_ENTRIES
        return 8 * n_entries + 8 * n_regions + 2 * LEAST_ENTRIES

    def grow_index(self, capacity: int, *, keep: bool) -> None:
        """Replace the index by one of another size; ``keep``: with its contents."""
        end = int(self.header[key_table.INDEX_END]) if keep else key_table.FIRST_INDEX
        grown = self.allocator.empty(capacity, np.uint32)
        grown[:end] = self.index[:end]
        self.index = grown
        self.header[key_table.INDEX_CAPACITY] = capacity

    def resize_header(self, regions: int = 0, chunks: int = 0, directory: int = 0) -> None:
        """Enlarge sections of the header; sections not given keep their sizes."""
        self.header = resized_header(self.header, regions, chunks, directory)
