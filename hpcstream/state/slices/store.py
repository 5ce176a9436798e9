"""The slices of a windowed operator: arenas, and the table that finds a slot in them.

::

    resolve(times, keys) -> slots        one kernel call a batch, whatever it holds
    words[i][slots]                      the accumulators, which the operator updates
    slices_below(n) -> regions           what a watermark completes
    slots_of(region)                     its entries, in order
    close(region)

Memory follows what is open: a closed slice leaves its place to the next one of
about its size, and once less than a third of the arenas is in use they are packed.
Slots that are not in use hold no rows and the words of a new entry. Slots are
stable between two calls of `resolve` and `merge`; keep none beyond.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hpcstream.columns.selection import gather
from hpcstream.kernels import key_regions, key_resolve, key_table, snapshots
from hpcstream.state.arrays import (
    NO_COUNTS,
    NO_NULLS,
    NONE,
    Allocator,
    Bools,
    Ints,
    Places,
    Slots,
    Word,
    as_range,
)
from hpcstream.state.book import kept_capacity, new_book, region_at, resized_book, times_outside
from hpcstream.state.slices.dense_range import DenseRange
from hpcstream.state.slices.direct_keys import direct_layout, is_sparse
from hpcstream.state.slices.patience import Patience
from hpcstream.state.word_arrays import carry, clear_words, copied, entries_of_size, move, roomy

_LISTED, _MERGED = 1, 2  # the STATE of slices, and of regions that are merged from some
_LEAST_ENTRIES = 1 << 12
_SPARE_ENTRIES = 1 << 14  # garbage below this is not worth packing


class SliceStore:
    """Entries (slice, key) with their accumulators, in arenas.

    Parameters
    ----------
    slice_size, offset : int
        Slice ``s`` covers ``[offset + s * slice_size, offset + (s + 1) * slice_size)``.
    words : sequence of Word
        The accumulators of an entry.
    allocator : Allocator
    margin : int
        Times closer than this to the ends of int64 are refused.

    Attributes
    ----------
    rows : int64[capacity]
        Number of rows of each slot.
    words : list of dtype[capacity]
        The accumulators of each slot, in the order given.
    n_late : int
        Late rows of the last call of `resolve`.
    dense_range : DenseRange
        Decides which keys the next slices are dense for.
    on_move : (old_slots, slots_end) -> None, or None
        Called when entries have moved: the one at ``old_slots[i]`` is at ``i + 1``
        now, and all were below ``slots_end``.
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
        self._allocator = allocator
        self._specs = tuple(words)
        self._book = new_book(4, 16, 16)
        self._book[key_table.SLICE_SIZE] = slice_size
        self._book[key_table.SLICE_OFFSET] = offset
        margin += 2 * slice_size + abs(offset)
        self._book[key_table.TIME_FLOOR] = -(2**63) + margin
        self._book[key_table.TIME_CEILING] = 2**63 - 1 - margin
        self._keys: Ints = allocator.empty(0, np.int64)
        self.rows: Ints = allocator.empty(0, np.int64)
        self.words: list[npt.NDArray[Any]] = [allocator.empty(0, w.kind) for w in words]
        self._is_wide = any(word.width > 1 for word in words)
        self._spare_entries = entries_of_size(self._specs, _SPARE_ENTRIES)
        self._index: Slots = allocator.empty(key_table.FIRST_INDEX, np.uint32)
        self._index[:] = 0
        self.n_late = self._n_touched = 0
        self._grow_entries(*[entries_of_size(self._specs, _LEAST_ENTRIES)] * 2)
        self._slots: Slots = np.empty(0, dtype=np.uint32)
        self._scratch = np.empty(2 * key_resolve.BLOCK, dtype=np.uint64)
        self._patience = Patience()
        self.dense_range = DenseRange()
        self.on_move: Callable[[Slots, int], None] | None = None

    @property
    def word_arrays(self) -> tuple[str, ...]:
        """The names of the words in `copies_of`."""
        return tuple(f"word:{word.name}" for word in self._specs)

    @property
    def slots_end(self) -> int:
        """A bound: all slots are less."""
        return int(self._book[key_table.ENTRY_END])

    @property
    def n_entries(self) -> int:
        """Number of open (slice, key) pairs."""
        return int(self._book[key_table.N_LIVE])

    def n_slice_entries(self) -> int:
        """Return the number of (slice, key) pairs, without what is merged from slices."""
        return int(self.counts(self.slices_below(2**63)[1]).sum())

    @property
    def n_regions(self) -> int:
        """Number of open slices and merged regions."""
        return int(self._book[key_table.N_OPEN])

    @property
    def n_slices(self) -> int:
        """Number of open slices."""
        return int(self._book[key_table.N_LISTED])

    @property
    def n_bytes(self) -> int:
        """Bytes of state; arenas count as far as they were ever touched."""
        touched = (array[: self._n_touched] for array in self._arrays())
        return self._book.nbytes + self._index.nbytes + sum(array.nbytes for array in touched)

    @property
    def slice_size(self) -> int:
        """Length of a slice."""
        return int(self._book[key_table.SLICE_SIZE])

    @property
    def slice_offset(self) -> int:
        """Start of slice 0."""
        return int(self._book[key_table.SLICE_OFFSET])

    @property
    def least_slice(self) -> int:
        """A bound: no open slice has a lesser number."""
        return int(self._book[key_table.LEAST_SLICE])

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
            How many rows each stands for, at least one; one if not given.
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
        book = self._book
        in_use = max(book[key_table.N_HELD], book[key_table.PEAK_HELD])
        if book[key_table.ENTRY_END] > 3 * in_use + self._spare_entries:
            self.pack()
            book = self._book
        book[key_table.FIRST_OPEN] = first_open
        columns = (times, keys, valid, counts)
        n_rows = times.shape[0]
        if self._slots.shape[0] < n_rows:
            self._slots = np.empty(n_rows, dtype=np.uint32)
        slots = self._slots[:n_rows]
        table = (book, self._index, self._keys, self.rows)
        done = key_resolve.resolve_rows(*table, columns, self._scratch, slots)
        self.n_late = int(book[key_table.N_LATE])
        if done < n_rows:
            self._resolve_rest(columns, slots, done)
        return slots

    @property
    def least_time(self) -> int:
        """The least time of the last batch that was resolved."""
        return int(self._book[key_table.BATCH_MIN])

    def _resolve_rest(
        self, columns: tuple[Ints, Ints, Bools, Ints], slots: Slots, done: int
    ) -> None:
        least = self._book[key_table.BATCH_MIN]
        while done < slots.shape[0]:
            times, keys, valid, counts = columns
            rest = (times[done:], keys[done:], valid[done:], counts[done:])  # or empty ones
            self._make_room(rest[0], rest[1][rest[2]] if valid.shape[0] else rest[1])
            done += key_resolve.resolve_rows(
                self._book, self._index, self._keys, self.rows, rest, self._scratch, slots[done:]
            )
            self.n_late += int(self._book[key_table.N_LATE])
        self._book[key_table.BATCH_MIN] = least

    def slices_below(self, limit: int) -> tuple[Ints, Ints]:
        """Return numbers and regions of the open slices below ``limit``, in slice order."""
        if self.n_slices == 0 or self.least_slice >= limit:
            return NONE, NONE
        numbers = np.empty(self.n_slices, dtype=np.int64)
        regions = np.empty(self.n_slices, dtype=np.int64)
        n_found = key_regions.listed_regions(self._book, min(limit, 2**63 - 1), numbers, regions)
        order = np.argsort(numbers[:n_found])
        return numbers[order], regions[order]

    def region_of(self, number: int) -> int | None:
        """Return the region of a slice, or None if it has no rows."""
        region = key_table.find_region(self._book, number)
        return None if region < 0 else int(region)

    def counts(self, regions: Ints) -> Ints:
        """Return the number of entries of each region."""
        return self._fields(regions, key_table.COUNT) + self._fields(regions, key_table.N_DENSE)

    def slots_of(self, regions: Ints) -> tuple[Slots, Bools | None]:
        """Return the slots of some regions: keys that one is dense for, then others as they came.

        Returns
        -------
        slots : uint32[n]
        is_null : bool[n] or None
            Which entries are of the null key; None if none is.
        """
        counts = self.counts(regions)
        n_slots = int(counts.sum())
        slots = np.empty(n_slots + 1, dtype=np.uint32)
        key_regions.slots_of_regions(self._book, self.rows, regions, slots)
        slots = slots[:n_slots]
        nulls = self._fields(regions, key_table.NULL_SLOT)
        if not nulls.any():
            return slots, None
        return slots, slots == np.repeat(nulls, counts)

    def keys_of(self, slots: Slots) -> Ints:
        """Return the key words of entries."""
        return gather(self._keys, slots)

    def close(self, regions: Ints) -> None:
        """Forget regions and their entries."""
        book = self._book
        layout = self._layout_after(regions)
        for word, array in zip(self._specs, self.words, strict=True):
            clear_words(book, self.rows, regions, word, array)
        key_regions.clear_slots(book, regions, 0, self.rows)
        key_regions.close_regions(book, regions)
        if layout is not None:
            self._reindex(*layout)

    def forget_below(self, limit: int) -> None:
        """Note that no slice below ``limit`` is open any more."""
        if self.n_slices == 0:
            self._book[key_table.LEAST_SLICE] = 2**63 - 1
        else:
            self._book[key_table.LEAST_SLICE] = max(self.least_slice, limit)

    def open_merged(self, sources: Ints) -> int:
        """Open a region outside the directory, to merge some others into."""
        expected = int(self.counts(sources).max())
        lows, widths = (self._fields(sources, f) for f in (key_table.LOW, key_table.WIDTH))
        if widths[0] and (widths == widths[0]).all() and (lows == lows[0]).all():
            return self._open(0, _MERGED, 0, int(lows[0]), int(widths[0]))
        return self._open(0, _MERGED, expected)

    def _open(self, number: int, kind: int, expected: int, low: int = 0, width: int = 0) -> int:
        while True:
            region = key_table.open_region(
                self._book, self._index, self._keys, number, kind, low, width, expected
            )
            if region >= 0:
                return int(region)
            self._make_room(None)

    def merge(self, region: int, source: int) -> list[tuple[Places, Places]]:
        """Find or make, in ``region``, the entries of ``source``; rows are added.

        Returns
        -------
        list of (uint32[n] or range, uint32[n] or range)
            Slots in ``source`` and the ones of the same keys in ``region``; what they
            are dense for is there whether it has rows or not.
        """
        width = int(self._book[region_at(region) + key_table.WIDTH])
        if not width:
            return [self._merge_entries(region, source, self._slots_of(source))]
        key_resolve.merge_dense(self._book, self.rows, source, region)
        from_, to = (int(self._book[region_at(r) + key_table.DENSE_BASE]) for r in (source, region))
        done: list[tuple[Places, Places]] = [(range(from_, from_ + width), range(to, to + width))]
        n_others = int(self._book[region_at(source) + key_table.COUNT])
        if n_others:
            others = self._slots_of(source)[-n_others:]
            done.append(self._merge_entries(region, source, others))
        return done

    def _slots_of(self, region: int) -> Slots:
        return self.slots_of(np.array([region], dtype=np.int64))[0]

    def _merge_entries(self, region: int, source: int, entries: Slots) -> tuple[Places, Places]:
        null_slot = int(self._book[region_at(source) + key_table.NULL_SLOT])
        slots = np.empty(entries.shape[0], dtype=np.uint32)
        done = 0
        while True:
            done += key_resolve.resolve_entries(
                self._book, self._index, self._keys, self.rows,
                entries[done:], null_slot, region, slots[done:],
            )  # fmt: skip
            if done == slots.shape[0]:
                return as_range(entries), slots
            self._make_room(None, self.keys_of(entries))

    def pack(self) -> npt.NDArray[np.uint32]:
        """Move all slots in use together, into arenas of the right size.

        Returns
        -------
        uint32[n]
            What a slot was before; what it is now is the position plus one.
        """
        old = np.empty(int(self._book[key_table.N_HELD]), dtype=np.uint32)
        key_regions.held_slots(self._book, old)
        self._move(old)
        return old

    def _give_up_dense(self) -> None:
        """Let no slice be dense, nor the next ones, and pack."""
        self.dense_range.forget()
        self._announce_dense()
        old = np.empty(self.n_entries + 1, dtype=np.uint32)
        key_regions.give_up_dense(self._book, self.rows, old)
        self._move(old[:-1])

    def _move(self, old: npt.NDArray[np.uint32]) -> None:
        """Move slots together; lay out their regions afresh."""
        n_slots, slots_end = old.shape[0], self.slots_end
        needed = 2 * max(n_slots, int(self._book[key_table.PEAK_HELD])) + self._spare_entries
        arrays = packed = self._arrays()
        if needed > self._keys.shape[0] or self._n_touched > 4 * needed:
            packed = self._empty_arrays(needed)
        move(arrays, old, packed, self._allocator)
        self._keys, self.rows, *self.words = packed
        self._open_up(n_slots + 1, 2 * n_slots + self._spare_entries)
        places = self._places(int(self._book[key_table.DIRECT_BITS]))
        self._grow_index(kept_capacity(self._index.shape[0], places), keep=False)
        if self._book[key_table.CHUNK_CAPACITY] < self.n_regions:
            self._resize_book(chunks=2 * self.n_regions)
        key_table.relocate(self._book, self._index, self._keys)
        if self.on_move is not None:
            self.on_move(old, slots_end)

    def replace_keys(self, new_key_of: Ints) -> None:
        """Replace each key ``k`` by ``new_key_of[k]``, for keys that are small numbers."""
        self._give_up_dense()
        live = self._keys[1 : self.n_entries + 1]
        live[:] = new_key_of[live]
        self.pack()

    def live_keys(self) -> Ints:
        """Return the key words of all entries, repeated as they are."""
        self._give_up_dense()
        return self._keys[1 : self.n_entries + 1]

    def snapshot_slots(self) -> Slots:
        """Return the slots of all slices, in the order of a snapshot."""
        return self.slots_of(self.slices_below(2**63)[1])[0]

    def outline(self) -> tuple[dict[str, npt.NDArray[Any]], Ints]:
        """Return what a snapshot says of the slices beside their entries, and their regions."""
        numbers, regions = self.slices_below(2**63)
        outline = {
            "slice_numbers": numbers,
            "slice_counts": self.counts(regions),
            "slice_lows": self._fields(regions, key_table.LOW),
            "slice_widths": self._fields(regions, key_table.WIDTH),
            "dense_range": self.dense_range.snapshot(),
        }
        return outline, regions

    def copies_of(self, regions: Ints) -> dict[str, npt.NDArray[Any]]:
        """Return copies of what the entries of regions hold, in the order of `slots_of`."""
        n_entries = int(self.counts(regions).sum())
        has_null = self._fields(regions, key_table.NULL_SLOT).any()
        flags = self.slots_of(regions)[1] if has_null else None
        is_null = np.zeros(n_entries, np.uint8) if flags is None else flags.view(np.uint8)
        names = ["keys", "rows", *self.word_arrays]
        state: dict[str, npt.NDArray[Any]] = {"is_null": is_null}
        for name, array in zip(names, self._arrays(), strict=True):
            table = (self._book, self.rows, regions, array)
            state[name] = copied(*table, self._allocator, n_entries)
        return state

    def rows_of(self, regions: Ints) -> Ints:
        """Return the number of rows of regions; it has grown if a region has changed."""
        totals = np.empty(len(regions), dtype=np.int64)
        snapshots.rows_of_regions(self._book, self.rows, regions, totals)
        return totals

    def expect(
        self, numbers: Ints, counts: Ints, lows: Ints = NO_COUNTS, widths: Ints = NO_COUNTS
    ) -> None:
        """Open slices, at once as large as they will be, dense for ``widths`` keys of ``lows``."""
        if not len(widths):
            numbers, places = np.unique(numbers, return_inverse=True)
            counts = np.bincount(places, counts, len(numbers)).astype(np.int64)
            lows = widths = np.zeros_like(numbers)
        n_slots = int(np.maximum(counts, 8).sum() + widths.sum())
        n_more = n_slots + entries_of_size(self._specs, _LEAST_ENTRIES)
        self._grow_entries(self.slots_end + n_more, n_more)
        expected = np.where(widths > 0, 0, counts)
        slices = zip(*(a.tolist() for a in (numbers, expected, lows, widths)), strict=True)
        for number, n_expected, low, width in slices:
            self._open(number, _LISTED, n_expected, low, width)
        self._book[key_table.PEAK_HELD] = max(self._book[key_table.PEAK_HELD], n_slots)

    def restore_dense(self, state: Ints) -> None:
        """Take over which keys the next slices are dense for, from `outline`."""
        self.dense_range.restore(state)
        self._announce_dense()

    def _fields(self, regions: Ints, field: int) -> Ints:
        values: Ints = self._book[region_at(regions) + field]
        return values

    def _open_up(self, start: int, stop: int) -> None:
        """Make slots that no region has had like new, let them be given out, and 0 be anybody's.

        Those from ``stop`` on can wait: memory that is not touched is not there.
        """
        stop = min(stop, self._keys.shape[0])
        self.rows[:1] = self.rows[start:stop] = 0
        for spec, array in zip(self._specs, self.words, strict=True):
            array[:1] = array[start:stop] = spec.identity
        self._book[key_table.ENTRY_CAPACITY] = stop
        self._n_touched = max(self._n_touched, stop)

    def _announce_dense(self) -> None:
        """Let the next slices be dense for the range of keys that is decided on."""
        self._book[key_table.DENSE_LOW] = self.dense_range.low
        self._book[key_table.DENSE_WIDTH] = self.dense_range.width

    def _reconsider_dense(self, slices: Ints) -> None:
        """Decide, from slices that are about to close, which keys the next ones are dense for."""
        n_dense, n_others, widths = (
            self._fields(slices, f) for f in (key_table.N_DENSE, key_table.COUNT, key_table.WIDTH)
        )
        is_dense = widths > 0
        if is_dense.any():
            self.dense_range.note_dense(widths[is_dense], n_dense[is_dense], n_others[is_dense])
        elif not self._is_wide and self.dense_range.wants_look(len(slices)):
            low, high = key_regions.range_of_keys(self._book, self._keys, slices)
            self.dense_range.look(int(low), int(high), int(n_others.sum()) // len(slices))
        self._announce_dense()

    def _layout_after(self, closing: Ints) -> tuple[int, int] | None:
        """Return how the table had better be direct once regions are closed; None: no change."""
        listed = closing[self._fields(closing, key_table.STATE) == _LISTED]
        if len(listed) == 0:
            return None
        self._reconsider_dense(listed)
        if self._book[key_table.DIRECT_BITS] or not self._patience.is_over(len(listed)):
            return None
        n_left = self.n_regions - len(closing) + 1
        mean_count = int(self._fields(listed, key_table.COUNT).sum()) // len(listed)
        layout = self._direct_layout(NONE, n_left, n_left * mean_count)
        if layout is None:
            self._patience.lost()
        return layout

    def _reindex(self, low: int, bits: int) -> None:
        """Make the table direct for 2**bits keys from ``low`` on, or hashed if bits are 0."""
        if self._index.shape[0] < self._places(bits):
            self._grow_index(self._places(bits), keep=False)
        key_table.reindex(self._book, self._index, self._keys, low, bits)

    def _places(self, bits: int) -> int:
        """Return the size of the index for what is open and a little more."""
        if bits:
            return ((self.n_regions + 2) << bits) + _LEAST_ENTRIES
        return 8 * self.n_entries + 8 * self.n_regions + 2 * _LEAST_ENTRIES

    def _enlarge_index(self, size: int) -> None:
        """Make room in the index, or need less of it the other way."""
        bits = int(self._book[key_table.DIRECT_BITS])
        n_regions = self.n_regions + 1
        n_entries = 2 * self._expected_entries() + _LEAST_ENTRIES
        if bits and is_sparse(bits, n_regions, n_entries):
            self._patience.lost()
            self._reindex(0, 0)
        elif bits or not self._patience.is_over(0) or not self._widen(NONE):
            self._grow_index(2 * self._index.shape[0] + size, keep=True)

    def _widen(self, words: Ints) -> bool:
        """Make the table direct for its keys and ``words``; return False if it should not be."""
        layout = self._direct_layout(words, self.n_regions, self._expected_entries())
        if layout is not None:
            self._reindex(*layout)
        return layout is not None

    def _direct_layout(self, words: Ints, n_regions: int, n_entries: int) -> tuple[int, int] | None:
        """Return the `direct_layout` for the keys of all entries and for ``words``."""
        low, high = (int(key) for key in key_regions.key_range(self._book, self._keys))
        if len(words):
            low, high = min(low, int(words.min())), max(high, int(words.max()))
        return direct_layout(low, high, n_regions, n_entries)

    def _expected_entries(self) -> int:
        """Return how many entries there will be if two slices become as large as the last."""
        return self.n_entries + 2 * int(self._book[key_table.LAST_COUNT])

    def _make_room(self, times: Ints | None, words: Ints | None = None) -> None:
        """Enlarge whatever the last call stopped for."""
        need = self._book[key_table.NEED]
        size = int(self._book[key_table.NEED_SIZE])
        if need == key_table.NEED_ENTRIES:
            self._more_entries(size)
        elif need == key_table.NEED_INDEX:
            self._enlarge_index(size)
        elif need == key_table.NEED_OTHER_KEYS:
            assert words is not None, "opening a region needs no keys"
            if not self._widen(words):
                self._patience.lost()
                self._reindex(0, 0)
        elif need == key_table.NEED_CHUNKS:
            self._resize_book(chunks=2 * int(self._book[key_table.CHUNK_CAPACITY]) + size)
        elif need == key_table.NEED_REGIONS:
            self._resize_book(regions=2 * int(self._book[key_table.REGION_CAPACITY]))
        elif need == key_table.NEED_DIRECTORY:
            self._resize_book(directory=4 * int(self._book[key_table.DIRECTORY_SIZE]))
        else:
            assert times is not None, f"stopped for need {need}"
            raise times_outside(self._book, times)

    def _more_entries(self, size: int) -> None:
        """Let at least ``size`` more slots be given out."""
        opened, capacity = int(self._book[key_table.ENTRY_CAPACITY]), self._keys.shape[0]
        if self.slots_end + size > capacity:
            self._grow_entries(2 * capacity + size, size)
        else:
            self._open_up(opened, self.slots_end + max(size, opened >> 2))

    def _grow_entries(self, capacity: int, size: int) -> None:
        """Enlarge the arenas, and let ``size`` more slots, or a quarter, be given out."""
        end, arrays, grown = self.slots_end, self._arrays(), self._empty_arrays(capacity)
        carry(arrays, end, grown)
        self._keys, self.rows, *self.words = grown
        self._open_up(min(end, arrays[0].shape[0]), end + max(size, end >> 2))

    def _arrays(self) -> list[npt.NDArray[Any]]:
        return [self._keys, self.rows, *self.words]

    def _empty_arrays(self, needed: int) -> list[npt.NDArray[Any]]:
        self._n_touched = 0
        capacity = needed if self._is_wide else roomy(needed)
        kinds = [self._keys.dtype, self.rows.dtype, *(word.kind for word in self._specs)]
        return [self._allocator.empty(capacity, kind) for kind in kinds]

    def _grow_index(self, capacity: int, *, keep: bool) -> None:
        end = int(self._book[key_table.INDEX_END]) if keep else key_table.FIRST_INDEX
        grown = self._allocator.empty(capacity, np.uint32)
        grown[:end] = self._index[:end]
        self._index = grown
        self._book[key_table.INDEX_CAPACITY] = capacity

    def _resize_book(self, regions: int = 0, chunks: int = 0, directory: int = 0) -> None:
        self._book = resized_book(self._book, regions, chunks, directory)
