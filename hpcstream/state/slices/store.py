"""The slices of a windowed operator: arenas, and a hash table from (slice, key) to slots.

::

    resolve(times, keys) -> slots        one kernel call a batch, whatever it holds
    find(times, keys) -> slots           the same, but no entry is made
    words[i][slots]                      the accumulators, which the operator updates
    slices_below(n) -> regions           what a watermark completes
    slots_of(region)                     its entries, in order
    clear(region, slots)                 entries are as new: no rows, no values
    close(region)                        the slice and all its entries are gone

Memory is proportional to the open slices: a slice of about the same size reuses the slots
of a closed one, and arenas are packed once less than a third of them is in use. Unused
slots hold no rows and the words of a new entry. Slots are stable between two calls of
`resolve` and `merge`; do not keep them longer, or register a listener (`on_move`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from hpcstream.kernels import key_lookup, key_regions, key_resolve, key_table
from hpcstream.state.arrays import (
    NO_COUNTS,
    NO_NULLS,
    Allocator,
    AnySlots,
    Bools,
    Ints,
    Slots,
    Word,
    as_range,
)
from hpcstream.state.header import MERGED, header_of_slices, region_at
from hpcstream.state.slices.arenas import SliceArenas
from hpcstream.state.slices.layout import SliceLayout
from hpcstream.state.slices.loading import SliceLoader
from hpcstream.state.slices.open_slices import OpenSlices
from hpcstream.state.word_arrays import clear_words

MoveListener = Callable[[Slots, int], None]
"""``(old_slots, slots_end)``: the entry at ``old_slots[i]`` is at ``i + 1`` now; all slots were
below ``slots_end``."""


class SliceStore(OpenSlices):
    """Entries (slice, key) with their accumulators, in arenas.

    Parameters
    ----------
    slice_size, offset : int
        Slice ``s`` covers ``[offset + s * slice_size, offset + (s + 1) * slice_size)``.
    words : sequence of Word
        The accumulators of an entry.
    allocator : Allocator
    margin : int
        Times closer than this to the limits of int64 are refused.

    Attributes
    ----------
    n_late : int
        Late rows of the last call of `resolve`.
    """

    def __init__(
        self,
        slice_size: int,
        offset: int,
        words: Sequence[Word],
        allocator: Allocator,
        *,
        margin: int = 0,
    ) -> None:
        arenas = SliceArenas(header_of_slices(slice_size, offset, margin), words, allocator)
        super().__init__(arenas, SliceLayout(arenas))
        self.n_late = 0
        self._slots: Slots = np.empty(0, dtype=np.uint32)
        self._scratch = np.empty(2 * key_resolve.BLOCK, dtype=np.uint64)
        self._listeners: list[MoveListener] = []

    def loader(self) -> SliceLoader:
        """Return what fills the store while it is empty, at a restart."""
        return SliceLoader(self, self._layout)

    def on_move(self, listener: MoveListener) -> None:
        """Call a function each time entries have moved, after those registered before it."""
        self._listeners.append(listener)

    def resolve(
        self,
        times: Ints,
        keys: Ints,
        valid: Bools = NO_NULLS,
        *,
        first_open: int = -(2**63),
        counts: Ints = NO_COUNTS,
    ) -> Slots:
        """Find or make the slot of each row, and count it there.

        Parameters
        ----------
        times, keys : int64[n]
        valid : bool[n] or bool[0]
            False where the key is null.
        counts : int64[n] or int64[0]
            How many rows each stands for, not less than one; one if not given. Zeros are
            for entries that were cleared, to be restored.
        first_open : int
            Rows of lesser slices are late: they get slot 0 and count in ``n_late``.

        Returns
        -------
        uint32[n]
            Scratch that the next call overwrites.

        Raises
        ------
        ValueError
            A time is too close to the ends of int64.
        """
        if self.arenas.is_sparse:
            self.pack()
        header = self.arenas.header
        header[key_table.FIRST_OPEN] = first_open
        columns = (times, keys, valid, counts)
        n_rows = times.shape[0]
        if self._slots.shape[0] < n_rows:
            self._slots = np.empty(n_rows, dtype=np.uint32)
        slots = self._slots[:n_rows]
        done = key_resolve.resolve_rows(*self.arenas.table, columns, self._scratch, slots)
        self.n_late = int(header[key_table.N_LATE])
        if done < n_rows:
            self._resolve_rest(columns, slots, done)
        return slots

    def _resolve_rest(
        self, columns: tuple[Ints, Ints, Bools, Ints], slots: Slots, done: int
    ) -> None:
        least = self.arenas.header[key_table.BATCH_MIN]
        while done < slots.shape[0]:
            times, keys, valid, counts = columns
            rest = (times[done:], keys[done:], valid[done:], counts[done:])  # or empty ones
            words = rest[1][rest[2]] if valid.shape[0] else rest[1]
            self._layout.make_room(rest[0], words)
            table = self.arenas.table
            done += key_resolve.resolve_rows(*table, rest, self._scratch, slots[done:])
            self.n_late += int(self.arenas.header[key_table.N_LATE])
        self.arenas.header[key_table.BATCH_MIN] = least

    def find(self, times: Ints, keys: Ints, valid: Bools = NO_NULLS) -> Slots:
        """Return the slot of each row's entry; 0 where none has rows. Nothing changes.

        Parameters
        ----------
        times, keys : int64[n]
        valid : bool[n] or bool[0]
            False where the key is null.

        Returns
        -------
        uint32[n]
            A new array.
        """
        slots = np.empty(times.shape[0], dtype=np.uint32)
        key_lookup.find_rows(*self.arenas.table, (times, keys, valid), slots)
        return slots

    def clear(self, region: int, slots: Slots) -> None:
        """Reset entries of a region: they have no rows and the words of new entries.

        `find` no longer returns them; `resolve` does. Until the region is closed they keep
        their slots, and `slots_of` lists them, unless the region is dense for their keys.
        """
        arenas = self.arenas
        key_regions.clear_entries(arenas.header, arenas.rows, region, slots)
        for word, array in zip(arenas.word_types, arenas.words, strict=True):
            array[slots] = word.identity

    def close(self, regions: Ints) -> None:
        """Remove regions and their entries."""
        arenas = self.arenas
        layout = self._layout.after(regions)
        for word, array in zip(arenas.word_types, arenas.words, strict=True):
            clear_words(arenas.header, arenas.rows, regions, word, array)
        key_regions.clear_slots(arenas.header, regions, 0, arenas.rows)
        key_regions.close_regions(arenas.header, regions)
        if layout is not None:
            self._layout.reindex(*layout)

    def forget_below(self, limit: int) -> None:
        """Declare that no slice below ``limit`` is open."""
        least = 2**63 - 1 if self.n_slices == 0 else max(self.least_slice, limit)
        self.arenas.header[key_table.LEAST_SLICE] = least

    def open_merged(self, sources: Ints) -> int:
        """Open a region outside the directory, to merge some others into."""
        expected = int(self.counts(sources).max())
        lows, widths = (self.fields(sources, f) for f in (key_table.LOW, key_table.WIDTH))
        if widths[0] and (widths == widths[0]).all() and (lows == lows[0]).all():
            return self._layout.open(0, MERGED, 0, int(lows[0]), int(widths[0]))
        return self._layout.open(0, MERGED, expected)

    def merge(self, region: int, source: int) -> list[tuple[AnySlots, AnySlots]]:
        """Find or make, in ``region``, the entries of ``source``; rows are added.

        Returns
        -------
        list of (uint32[n] or range, uint32[n] or range)
            Slots in ``source`` and those of the same keys in ``region``. The slots of a dense
            range are all included, with or without rows.
        """
        header = self.arenas.header
        width = int(header[region_at(region) + key_table.WIDTH])
        if not width:
            return [self._merge_entries(region, source, self._slots_of(source))]
        key_resolve.merge_dense(header, self.rows, source, region)
        from_, to = (int(header[region_at(r) + key_table.DENSE_BASE]) for r in (source, region))
        done: list[tuple[AnySlots, AnySlots]] = [
            (range(from_, from_ + width), range(to, to + width))
        ]
        n_others = int(header[region_at(source) + key_table.COUNT])
        if n_others:
            others = self._slots_of(source)[-n_others:]
            done.append(self._merge_entries(region, source, others))
        return done

    def _slots_of(self, region: int) -> Slots:
        return self.slots_of(np.array([region], dtype=np.int64))[0]

    def _merge_entries(self, region: int, source: int, entries: Slots) -> tuple[AnySlots, AnySlots]:
        null_slot = int(self.arenas.header[region_at(source) + key_table.NULL_SLOT])
        slots = np.empty(entries.shape[0], dtype=np.uint32)
        done = 0
        while True:
            done += key_resolve.resolve_entries(
                *self.arenas.table, entries[done:], null_slot, region, slots[done:]
            )
            if done == slots.shape[0]:
                return as_range(entries), slots
            self._layout.make_room(None, self.keys_of(entries))

    def pack(self) -> None:
        """Move all slots in use together, into arenas of the right size."""
        self._move(self.arenas.held_slots())

    def _move(self, old: Slots) -> None:
        slots_end = self.slots_end
        self.arenas.pack(old)
        for listener in self._listeners:
            listener(old, slots_end)

    def replace_keys(self, new_key_of: Ints) -> None:
        """Replace each key ``k`` by ``new_key_of[k]``, for keys that are small numbers."""
        live = self.live_keys()
        live[:] = new_key_of[live]
        self.pack()

    def live_keys(self) -> Ints:
        """Return the key words of all entries, repeated as they are; no slice is dense then."""
        self._move(self._layout.disable_dense())
        return self.arenas.keys[1 : self.n_entries + 1]
