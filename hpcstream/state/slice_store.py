"""The slices of a windowed operator: arenas, and the table that finds a slot in them.

::

    resolve(times, keys) -> slots        one kernel call a batch, whatever it holds
    words[i][slots]                      the accumulators, which the operator updates
    slices_below(n) -> regions           what a watermark completes
    slots_of(region)                     its entries, in insertion order
    close(region)

Memory follows what is open: a closed slice leaves its place to the next one of
about its size, and once less than a third of the arenas is in use they are packed.
Slots that are not in use hold no rows and the words of a new entry. Slots are
stable between two calls of `resolve` and `merge`; keep none beyond.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hpcstream.kernels import accumulate, key_regions, key_resolve, key_table, snapshots
from hpcstream.state.book import new_book, resized_book
from hpcstream.state.direct_keys import Patience, direct_layout, is_sparse

Ints = npt.NDArray[np.int64]
Slots = npt.NDArray[np.uint32]
Bools = npt.NDArray[np.bool_]
Arrays = Mapping[str, npt.NDArray[Any]]

_LEAST_ENTRIES = 1 << 12
_SPARE_ENTRIES = 1 << 14  # garbage below this is not worth packing
NO_NULLS: Bools = np.zeros(0, dtype=np.bool_)
NO_NULLS.setflags(write=False)


class Allocator(Protocol):
    """Where arenas come from; `hpcstream.memory.pool.BufferPool` is one."""

    def empty(self, n: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return a writable array with anything in it."""


class HeapAllocator:
    """Arenas from NumPy's own memory, for tests."""

    def empty(self, n: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return a writable array with anything in it."""
        return np.empty(n, dtype=dtype)


@dataclass(frozen=True)
class Word:
    """One value of state per entry.

    Attributes
    ----------
    name : str
        Unique within a store; names the array in snapshots.
    dtype : str
        NumPy's name of its type.
    identity : int or float
        What a new entry holds.
    """

    name: str
    dtype: str
    identity: int | float


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
        self.words: list[npt.NDArray[Any]] = [allocator.empty(0, w.dtype) for w in words]
        self._index: Slots = allocator.empty(key_table.FIRST_INDEX, np.uint32)
        self._index[:] = 0
        self._identities = [_bits_of(word) for word in words]
        self._grow_entries(_LEAST_ENTRIES)
        self._slots: Slots = np.empty(0, dtype=np.uint32)
        self._patience = Patience()
        self.n_late = 0
        self.on_move: Callable[[Slots, int], None] | None = None

    @property
    def slots_end(self) -> int:
        """A bound: all slots are less."""
        return int(self._book[key_table.ENTRY_END])

    @property
    def n_entries(self) -> int:
        """Number of open (slice, key) pairs."""
        return int(self._book[key_table.N_LIVE])

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
        """Bytes reserved for state."""
        arrays: list[npt.NDArray[Any]] = [self._book, self._index, self._keys, self.rows]
        return sum(array.nbytes for array in arrays + self.words)

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
        step: int = 1,
    ) -> Slots:
        """Find or make the slot of each row; add ``step`` to the rows counted there.

        Parameters
        ----------
        times, keys : int64[n]
        valid : bool[n] or bool[0]
            False where the key is null.
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
        in_use = max(book[key_table.N_LIVE], book[key_table.PEAK_LIVE])
        if book[key_table.ENTRY_END] > 3 * in_use + _SPARE_ENTRIES:
            self.pack()
            book = self._book
        book[key_table.FIRST_OPEN] = first_open
        book[key_table.STEP] = step
        n_rows = times.shape[0]
        if self._slots.shape[0] < n_rows:
            self._slots = np.empty(n_rows, dtype=np.uint32)
        slots = self._slots[:n_rows]
        done = key_resolve.resolve_rows(
            book, self._index, self._keys, self.rows, times, keys, valid, slots
        )
        self.n_late = int(book[key_table.N_LATE])
        if done < n_rows:
            self._resolve_rest(times, keys, valid, slots, done)
        return slots

    @property
    def least_time(self) -> int:
        """The least time of the last batch that was resolved."""
        return int(self._book[key_table.BATCH_MIN])

    def _resolve_rest(self, times: Ints, keys: Ints, valid: Bools, slots: Slots, done: int) -> None:
        least = self._book[key_table.BATCH_MIN]
        while done < times.shape[0]:
            self._make_room(times, _valid_keys(keys[done:], valid[done:]))
            rest = valid[done:] if valid.shape[0] else valid
            done += key_resolve.resolve_rows(
                self._book, self._index, self._keys, self.rows,
                times[done:], keys[done:], rest, slots[done:],
            )  # fmt: skip
            self.n_late += int(self._book[key_table.N_LATE])
        self._book[key_table.BATCH_MIN] = least

    def slices_below(self, limit: int) -> tuple[Ints, Ints]:
        """Return numbers and regions of the open slices below ``limit``, in slice order."""
        if self.n_slices == 0 or self.least_slice >= limit:
            return _NONE, _NONE
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
        return self._fields(regions, key_table.COUNT)

    def slots_of(self, regions: Ints) -> tuple[Slots, Bools | None]:
        """Return the slots of some regions, each in insertion order.

        Returns
        -------
        slots : uint32[n]
        is_null : bool[n] or None
            Which entries are of the null key; None if none is.
        """
        counts = self.counts(regions)
        slots = np.empty(int(counts.sum()), dtype=np.uint32)
        key_regions.slots_of_regions(self._book, regions, slots)
        nulls = self._fields(regions, key_table.NULL_SLOT)
        if not nulls.any():
            return slots, None
        return slots, slots == np.repeat(nulls, counts)

    def keys_of(self, slots: Slots) -> Ints:
        """Return the key words of entries."""
        return self._keys[slots]

    def close(self, regions: Ints) -> None:
        """Forget regions and their entries."""
        book = self._book
        layout = self._layout_after(regions)
        key_regions.clear_slots(book, regions, 0, self.rows)
        for identity, array in zip(self._identities, self.words, strict=True):
            key_regions.clear_slots(book, regions, identity, array.view(np.int64))
        key_regions.close_regions(book, regions)
        if layout is not None:
            self._reindex(*layout)

    def forget_below(self, limit: int) -> None:
        """Note that no slice below ``limit`` is open any more."""
        if self.n_slices == 0:
            self._book[key_table.LEAST_SLICE] = 2**63 - 1
        else:
            self._book[key_table.LEAST_SLICE] = max(self.least_slice, limit)

    def open_merged(self, expected: int) -> int:
        """Open a region outside the directory, to merge slices into."""
        return self._open(0, expected, listed=False)

    def _open(self, number: int, expected: int, *, listed: bool) -> int:
        while True:
            region = key_table.open_region(self._book, self._index, number, listed, expected)
            if region >= 0:
                return int(region)
            self._make_room(None)

    def merge(self, region: int, source: int) -> tuple[Slots, Slots]:
        """Find or make, in ``region``, the entries of ``source``; rows are added.

        Returns
        -------
        uint32[n], uint32[n]
            Slots in ``source`` and the ones of the same keys in ``region``.
        """
        source_slots, _ = self.slots_of(np.array([source], dtype=np.int64))
        slots = np.empty(source_slots.shape[0], dtype=np.uint32)
        null_slot = int(self._book[_region_at(source) + key_table.NULL_SLOT])
        done = 0
        while True:
            done += key_resolve.resolve_entries(
                self._book, self._index, self._keys, source_slots[done:], null_slot, region,
                slots[done:],
            )  # fmt: skip
            if done == slots.shape[0]:
                break
            self._make_room(None)
        accumulate.add_counts(slots, values_at(self.rows, source_slots), self.rows)
        return source_slots, slots

    def pack(self) -> npt.NDArray[np.uint32]:
        """Move all entries together, into arenas of the right size.

        Returns
        -------
        uint32[n_entries]
            Slot that an entry had before; its slot now is the position plus one.
        """
        n_live = self.n_entries
        old = np.empty(n_live, dtype=np.uint32)
        slots_end = self.slots_end
        key_regions.live_slots(self._book, old)
        capacity = _kept_capacity(self._keys.shape[0], 2 * n_live + _SPARE_ENTRIES)
        arrays = [self._keys, self.rows, *self.words]
        packed = [self._allocator.empty(capacity, array.dtype) for array in arrays]
        for array, target in zip(arrays, packed, strict=True):
            np.take(array, old, out=target[1 : n_live + 1])
        self._keys, self.rows, *self.words = packed
        self._clear_from(n_live + 1)
        places = self._places(int(self._book[key_table.DIRECT_BITS]))
        self._grow_index(_kept_capacity(self._index.shape[0], places), keep=False)
        self._book[key_table.ENTRY_CAPACITY] = capacity
        if self._book[key_table.CHUNK_CAPACITY] < self.n_regions:
            self._resize_book(chunks=2 * self.n_regions)
        key_table.relocate(self._book, self._index, self._keys)
        if self.on_move is not None:
            self.on_move(old, slots_end)
        return old

    def replace_keys(self, new_key_of: Ints) -> None:
        """Replace each key ``k`` by ``new_key_of[k]``, for keys that are small numbers."""
        old = self.pack()
        live = self._keys[1 : old.shape[0] + 1]
        live[:] = new_key_of[live]
        self.pack()

    def live_keys(self) -> Ints:
        """Return the key words of all entries, repeated as they are."""
        self.pack()
        return self._keys[1 : self.n_entries + 1]

    def snapshot_slots(self) -> Slots:
        """Return the slots of all slices, in the order of a snapshot."""
        return self.slots_of(self.slices_below(2**63)[1])[0]

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """Return all slices as arrays; merged regions are left out."""
        numbers, regions = self.slices_below(2**63)
        counts = self.counts(regions)
        return {"slice_numbers": numbers, "slice_counts": counts, **self.copies_of(regions)}

    def copies_of(self, regions: Ints) -> dict[str, npt.NDArray[Any]]:
        """Return copies of what the entries of regions hold, each in insertion order."""
        n_entries = int(self.counts(regions).sum())
        is_null = np.zeros(n_entries, dtype=np.uint8)
        snapshots.mark_null_keys(self._book, regions, is_null)
        arrays = {"keys": self._keys, "rows": self.rows}
        arrays |= {f"word:{s.name}": a for s, a in zip(self._specs, self.words, strict=True)}
        state: dict[str, npt.NDArray[Any]] = {"is_null": is_null}
        for name, array in arrays.items():
            state[name] = copy = self._allocator.empty(n_entries, array.dtype)
            snapshots.copy_regions(self._book, regions, array.view(np.uint64), copy.view(np.uint64))
        return state

    def rows_of(self, regions: Ints) -> Ints:
        """Return the number of rows of regions; it has grown if a region has changed."""
        totals = np.empty(len(regions), dtype=np.int64)
        snapshots.rows_of_regions(self._book, regions, self.rows, totals)
        return totals

    def restore(self, state: Arrays) -> None:
        """Take over the slices of a snapshot, entries in the same order."""
        numbers, counts = state["slice_numbers"], state["slice_counts"]
        self._grow_entries(self.slots_end + int(np.maximum(counts, 8).sum()) + _LEAST_ENTRIES)
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            self._open(number, count, listed=True)  # at once as large as it will be
        self._book[key_table.PEAK_LIVE] = max(self._book[key_table.PEAK_LIVE], counts.sum())
        times = np.repeat(numbers * self.slice_size + self.slice_offset, counts)
        is_null = state["is_null"].astype(np.bool_)
        valid = _read_only(~is_null) if is_null.any() else NO_NULLS
        slots = self.resolve(_read_only(times), _read_only(state["keys"]), valid, step=0)
        self.rows[slots] = state["rows"]
        for spec, array in zip(self._specs, self.words, strict=True):
            array[slots] = state[f"word:{spec.name}"]

    def _fields(self, regions: Ints, field: int) -> Ints:
        values: Ints = self._book[_region_at(regions) + field]
        return values

    def _clear_from(self, start: int) -> None:
        """Make slots that no region has had like new; slot 0 is anybody's."""
        self.rows[start:] = 0
        for spec, array in zip(self._specs, self.words, strict=True):
            array[start:] = spec.identity

    def _layout_after(self, closing: Ints) -> tuple[int, int] | None:
        """Return how the table had better be direct once regions are closed; None: no change."""
        if self._book[key_table.DIRECT_BITS] or not self._patience.is_over(len(closing)):
            return None
        n_left = self.n_regions - len(closing) + 1
        mean_count = int(self.counts(closing).sum()) // max(1, len(closing))
        layout = self._direct_layout(_NONE, n_left, n_left * mean_count)
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
        n_entries = 2 * self._expected_entries(n_regions) + _LEAST_ENTRIES
        if bits and is_sparse(bits, n_regions, n_entries):
            self._patience.lost()
            self._reindex(0, 0)
        elif bits or not self._patience.is_over(0) or not self._widen(_NONE):
            self._grow_index(2 * self._index.shape[0] + size, keep=True)

    def _widen(self, words: Ints) -> bool:
        """Make the table direct for its keys and ``words``; return False if it should not be."""
        layout = self._direct_layout(words, self.n_regions, self._expected_entries(self.n_regions))
        if layout is not None:
            self._reindex(*layout)
        return layout is not None

    def _direct_layout(self, words: Ints, n_regions: int, n_entries: int) -> tuple[int, int] | None:
        """Return the `direct_layout` for the keys of all entries and for ``words``."""
        low, high = (int(key) for key in key_regions.key_range(self._book, self._keys))
        if len(words):
            low, high = min(low, int(words.min())), max(high, int(words.max()))
        return direct_layout(low, high, n_regions, n_entries)

    def _expected_entries(self, n_regions: int) -> int:
        """Return how many entries there are, or will be if slices become as large as the last."""
        return max(self.n_entries, n_regions * int(self._book[key_table.LAST_COUNT]))

    def _make_room(self, times: Ints | None, words: Ints | None = None) -> None:
        """Enlarge whatever the last call stopped for."""
        need = self._book[key_table.NEED]
        size = int(self._book[key_table.NEED_SIZE])
        if need == key_table.NEED_ENTRIES:
            self._grow_entries(2 * self._keys.shape[0] + size)
        elif need == key_table.NEED_INDEX:
            self._enlarge_index(size)
        elif need == key_table.NEED_OTHER_KEYS:
            assert words is not None, "merged regions hold no other keys than slices"
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
            floor, ceiling = (
                int(self._book[f]) for f in (key_table.TIME_FLOOR, key_table.TIME_CEILING)
            )
            raise ValueError(
                f"event times from {int(times.min())} to {int(times.max())}: outside "
                f"[{floor}, {ceiling}], where windows can be counted; is the column's unit right?"
            )

    def _grow_entries(self, capacity: int) -> None:
        end = int(self._book[key_table.ENTRY_END])
        arrays = [self._keys, self.rows, *self.words]
        grown = [self._allocator.empty(capacity, array.dtype) for array in arrays]
        for array, target in zip(arrays, grown, strict=True):
            used = min(end, array.shape[0])
            target[:used] = array[:used]
        self._keys, self.rows, *self.words = grown
        self._clear_from(min(end, arrays[0].shape[0]))
        self._book[key_table.ENTRY_CAPACITY] = capacity

    def _grow_index(self, capacity: int, *, keep: bool) -> None:
        end = int(self._book[key_table.INDEX_END]) if keep else key_table.FIRST_INDEX
        grown = self._allocator.empty(capacity, np.uint32)
        grown[:end] = self._index[:end]
        self._index = grown
        self._book[key_table.INDEX_CAPACITY] = capacity

    def _resize_book(self, regions: int = 0, chunks: int = 0, directory: int = 0) -> None:
        self._book = resized_book(self._book, regions, chunks, directory)


def _bits_of(word: Word) -> np.int64:
    """Return what a new entry holds, as the bits of an int64."""
    return np.int64(np.array([word.identity], dtype=word.dtype).view(np.int64)[0])


_NONE: Ints = np.zeros(0, dtype=np.int64)


def _kept_capacity(capacity: int, needed: int) -> int:
    """Return the size of an arena after packing: as it was, unless that is far too much."""
    return capacity if needed <= capacity <= 4 * needed else needed


def values_at(array: npt.NDArray[Any], slots: Slots) -> npt.NDArray[Any]:
    """Return the values of a region's entries, read-only; a view where they lie together.

    The slots of a region ascend, so the first and the last tell.
    """
    n_slots = len(slots)
    if n_slots and int(slots[-1]) - int(slots[0]) + 1 == n_slots:
        values = array[int(slots[0]) : int(slots[-1]) + 1]
    else:
        values = array[slots]
    values.setflags(write=False)
    return values


def _valid_keys(keys: Ints, valid: Bools) -> Ints:
    return keys[valid] if valid.shape[0] else keys


def _region_at(region: Any) -> Any:
    """Return where the fields of a region (or of each of many) are in the book."""
    return key_table.REGIONS_AT + region * key_table.REGION_FIELDS


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    view = np.ascontiguousarray(array).view()
    view.setflags(write=False)
    return view
