"""How the keys of a slice are found: hashed, direct or dense (`hpcstream.kernels.key_table`).

`direct_keys` and `dense_range` decide by numbers; this module reads the numbers from the
table and carries the decision out.
"""

from __future__ import annotations

import numpy as np

from hpcstream.kernels import key_regions, key_table
from hpcstream.state.arrays import NONE, Ints, Slots
from hpcstream.state.header import LISTED, fields_of, times_outside
from hpcstream.state.slices.arenas import LEAST_ENTRIES, SliceArenas
from hpcstream.state.slices.backoff import Backoff
from hpcstream.state.slices.dense_range import DenseRange
from hpcstream.state.slices.direct_keys import direct_layout, is_sparse


class SliceLayout:
    """Chooses the layout of a table of slices, and makes room in it.

    Parameters
    ----------
    arenas : SliceArenas

    Attributes
    ----------
    dense_range : DenseRange
        Decides which keys the next slices are dense for.
    """

    def __init__(self, arenas: SliceArenas) -> None:
        self._arenas = arenas
        self._backoff = Backoff()
        self.dense_range = DenseRange()

    def make_room(self, times: Ints | None, words: Ints | None = None) -> None:
        """Enlarge the array whose lack of room stopped the last kernel.

        ``times`` and ``words`` are those of the rows not yet processed.
        """
        arenas, header = self._arenas, self._arenas.header
        need, size = header[key_table.NEED], int(header[key_table.NEED_SIZE])
        if need == key_table.NEED_ENTRIES:
            arenas.more_entries(size)
        elif need == key_table.NEED_INDEX:
            self._enlarge_index(size)
        elif need == key_table.NEED_OTHER_KEYS:
            assert words is not None, "opening a region needs no keys"
            if not self._widen(words):
                self._hash()
        elif need == key_table.NEED_CHUNKS:
            arenas.resize_header(chunks=2 * int(header[key_table.CHUNK_CAPACITY]) + size)
        elif need == key_table.NEED_REGIONS:
            arenas.resize_header(regions=2 * int(header[key_table.REGION_CAPACITY]))
        elif need == key_table.NEED_DIRECTORY:
            arenas.resize_header(directory=4 * int(header[key_table.DIRECTORY_SIZE]))
        else:
            assert times is not None, f"stopped for need {need}"
            raise times_outside(header, times)

    def open(self, number: int, kind: int, expected: int, low: int = 0, width: int = 0) -> int:
        """Open a region for about so many entries, besides ``width`` keys from ``low`` on."""
        while True:
            header, index, keys, _ = self._arenas.table
            region = key_table.open_region(header, index, keys, number, kind, low, width, expected)
            if region >= 0:
                return int(region)
            self.make_room(None)

    def prepare(self, low: int, high: int, n_regions: int, n_entries: int) -> None:
        """Make a table without regions ready for so many, with keys from ``low`` to ``high``."""
        layout = direct_layout(low, high, n_regions, n_entries) or (0, 0)
        arenas = self._arenas
        arenas.grow_index(arenas.index_size(layout[1], n_regions, n_entries), keep=False)
        key_table.reindex(arenas.header, arenas.index, arenas.keys, *layout)

    def after(self, closing: Ints) -> tuple[int, int] | None:
        """Return the arguments of `reindex` after regions are closed; None: do not call it."""
        header = self._arenas.header
        listed = closing[fields_of(header, closing, key_table.STATE) == LISTED]
        if len(listed) == 0:
            return None
        self._reconsider_dense(listed)
        if header[key_table.DIRECT_BITS] or not self._backoff.due(len(listed)):
            return None
        n_left = self._arenas.n_regions - len(closing) + 1
        mean_count = int(fields_of(header, listed, key_table.COUNT).sum()) // len(listed)
        layout = self._direct_layout(NONE, n_left, n_left * mean_count)
        if layout is None:
            self._backoff.failed()
        return layout

    def reindex(self, low: int, bits: int) -> None:
        """Make the table direct for 2**bits keys from ``low`` on, or hashed if bits are 0."""
        arenas = self._arenas
        size = arenas.index_size(bits)
        if len(arenas.index) < size:
            arenas.grow_index(size, keep=False)
        key_table.reindex(arenas.header, arenas.index, arenas.keys, low, bits)

    def announce_dense(self) -> None:
        """Make the next slices dense for the chosen range of keys."""
        header = self._arenas.header
        header[key_table.DENSE_LOW] = self.dense_range.low
        header[key_table.DENSE_WIDTH] = self.dense_range.width

    def disable_dense(self) -> Slots:
        """Disable the dense layout; return the slots of all entries, which must be packed."""
        arenas = self._arenas
        self.dense_range.forget()
        self.announce_dense()
        slots = np.empty(arenas.n_entries + 1, dtype=np.uint32)
        key_regions.give_up_dense(arenas.header, arenas.rows, slots)
        return slots[:-1]

    def _reconsider_dense(self, slices: Ints) -> None:
        """Decide, from slices that are about to close, which keys the next ones are dense for."""
        header = self._arenas.header
        n_dense, n_others, widths = (
            fields_of(header, slices, field)
            for field in (key_table.N_DENSE, key_table.COUNT, key_table.WIDTH)
        )
        is_dense = widths > 0
        if is_dense.any():
            self.dense_range.note_dense(widths[is_dense], n_dense[is_dense], n_others[is_dense])
        elif not self._arenas.is_wide and self.dense_range.wants_look(len(slices)):
            low, high = key_regions.range_of_keys(header, self._arenas.keys, slices)
            self.dense_range.look(int(low), int(high), int(n_others.sum()) // len(slices))
        self.announce_dense()

    def _enlarge_index(self, size: int) -> None:
        """Make room in the index, or change to the layout that needs less of it."""
        arenas = self._arenas
        bits = int(arenas.header[key_table.DIRECT_BITS])
        n_entries = 2 * self._expected_entries() + LEAST_ENTRIES
        if bits and is_sparse(bits, arenas.n_regions + 1, n_entries):
            self._hash()
        elif bits or not self._backoff.due(0) or not self._widen(NONE):
            arenas.grow_index(2 * len(arenas.index) + size, keep=True)

    def _hash(self) -> None:
        self._backoff.failed()
        self.reindex(0, 0)

    def _widen(self, words: Ints) -> bool:
        """Make the table direct for its keys and ``words``; return False if it should not be."""
        layout = self._direct_layout(words, self._arenas.n_regions, self._expected_entries())
        if layout is not None:
            self.reindex(*layout)
        return layout is not None

    def _direct_layout(self, words: Ints, n_regions: int, n_entries: int) -> tuple[int, int] | None:
        """Return the `direct_layout` for the keys of all entries and for ``words``."""
        arenas = self._arenas
        low, high = (int(key) for key in key_regions.key_range(arenas.header, arenas.keys))
        if len(words):
            low, high = min(low, int(words.min())), max(high, int(words.max()))
        return direct_layout(low, high, n_regions, n_entries)

    def _expected_entries(self) -> int:
        """Return how many entries there will be if two slices become as large as the last."""
        return self._arenas.n_entries + 2 * int(self._arenas.header[key_table.LAST_COUNT])
