"""The entries of a `SliceStore` as a table: a segment for each slice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from hpcstream.columns.ownership import KeyGroups, Ownership
from hpcstream.columns.selection import gather
from hpcstream.state.arrays import NO_NULLS, Arrays, Bools, Ints, Slots, read_only
from hpcstream.state.group_order import entries_at, in_group_order, out_of_group_order
from hpcstream.state.slices.store import SliceStore
from hpcstream.state.table import Order, Part, Segment, StateTable, TableCopy, counts_name
from hpcstream.state.word_arrays import items_of, scattered

Grouping = Callable[[Ints, Bools], KeyGroups]
"""Returns the key groups of key words, and of which are null (bool[n])."""

Words = list[npt.NDArray[Any]]

OwnerOfSlices = Callable[[Ints, Ownership], Bools]
"""Returns which slice numbers an instance owns."""


_OUTLINE = ("slice_numbers", "slice_counts", "slice_lows", "slice_widths", "dense_range")
_ENTRIES = ("keys", "is_null", "rows")  # and the words

STRIDE = 64
"""The index has the key group of so many entries' first one."""


class SliceKeys(Protocol):
    """What the words of keys mean.

    Attributes
    ----------
    generation : int
        Another one when the words of all keys have changed.
    has_groups : bool
        Keys have key groups; else there is but one key.
    """

    generation: int
    has_groups: bool

    def grouping(self) -> Grouping:
        """Return what tells key groups of the words as they are now; for the background."""

    def owned(self, part: int, words: Ints, is_null: Bools, owned: Ownership) -> Bools:
        """Return which entries of a part that was merged an instance owns."""

    def translated(self, part: int, words: Ints) -> Ints:
        """Return the words, here, of owned keys of a part that was merged."""


class _Entries(NamedTuple):
    """Entries of a part that an instance takes over."""

    numbers: Ints
    words: Ints
    is_null: Bools
    kept: Bools
    arrays: Arrays


class SliceTable(StateTable):
    """Open slices, entry by entry: key, rows, and the words of accumulators.

    Parameters
    ----------
    store : SliceStore
    keys : SliceKeys
        A table of theirs is merged before this one.
    merge_words : callable
        Merges words (first those of the first accumulator) into entries, given by their slots.
    epoch : callable, optional
        Returns another number when slices that were closed may have been opened again.
    owner_of_slices : callable, optional
        Returns which slice numbers an instance owns, if that does not rest on keys.
    name : str
    prefix : str
        Of the names of its arrays.
    """

    def __init__(
        self,
        store: SliceStore,
        keys: SliceKeys,
        merge_words: Callable[[Slots, Words], None],
        *,
        epoch: Callable[[], int] = lambda: 0,
        owner_of_slices: OwnerOfSlices | None = None,
        name: str = "slices",
        prefix: str = "",
    ) -> None:
        self.name = prefix + name
        if keys.has_groups and owner_of_slices is None:
            self.order = Order(f"{prefix}places", f"{prefix}key_groups", STRIDE)
        self._store = store
        self._keys = keys
        self._merge_words = merge_words
        self._epoch = epoch
        self._owner_of_slices = owner_of_slices
        self._prefix = prefix
        self._entry_arrays = (*_ENTRIES, *store.word_arrays)
        self.slots_of_parts: dict[int, Slots] | None = None

    @property
    def n_bytes(self) -> int:
        """Bytes reserved for slices."""
        return self._store.n_bytes

    def head(self) -> dict[str, npt.NDArray[Any]]:
        """Return numbers and sizes of slices, and which keys they are dense for."""
        outline = self._store.outline()[0]
        outline["slice_lows"] *= outline["slice_widths"] > 0  # anything may stand in others
        return self._named(outline)

    def segments(self) -> Sequence[Segment]:
        """Return the slices."""
        outline, regions = self._store.outline()
        numbers, counts = outline["slice_numbers"], outline["slice_counts"]
        same = f"{self._keys.generation}/{self._epoch()}"
        slices = zip(numbers.tolist(), counts.tolist(), self._store.versions(regions), strict=True)
        return [
            Segment(str(number), f"{count}/{n_rows}/{n_clears}/{same}", count)
            for number, count, (n_rows, n_clears) in slices
        ]

    def copy(self, indices: Ints) -> TableCopy:
        """Return copies of what the entries of some slices hold."""
        regions = self._store.outline()[1][indices]
        arrays = self._store.copies_of(regions)
        named = self._named(arrays)
        if self.order is None:
            return TableCopy(named)
        counts, order, grouping = self._store.counts(regions), self.order, self._keys.grouping()

        def finish() -> dict[str, npt.NDArray[Any]]:
            groups = grouping(arrays["keys"], arrays["is_null"].view(np.bool_))
            return in_group_order(named, groups, counts, order)

        return TableCopy(named, finish)

    def restore(self, arrays: Arrays) -> None:
        """Take over slices, entries as they were."""
        state, entries = self._own(arrays), None
        if self.order is not None:
            entries = entries_at(state["places"], state["counts"])
            state |= {name: out_of_group_order(state[name], entries) for name in _ENTRIES}
        slots = self._resolve_all(state)
        if entries is not None:
            slots = gather(slots, entries)  # of the words, which are as they were written
        for name, array in zip(self._store.word_arrays, self._store.words, strict=True):
            scattered(state[name], slots, array)

    def _resolve_all(self, state: Arrays) -> Slots:
        """Open slices, and return the slots of entries in their first order."""
        store, numbers, counts = self._store, state["slice_numbers"], state["slice_counts"]
        store.restore_dense(state["dense_range"])
        store.expect(numbers, counts, state["slice_lows"], state["slice_widths"])
        times = np.repeat(numbers * store.slice_size + store.slice_offset, counts)
        is_null = state["is_null"].view(np.bool_)
        valid = read_only(~is_null) if is_null.any() else NO_NULLS
        keys, rows = read_only(state["keys"]), read_only(state["rows"])
        return store.resolve(read_only(times), keys, valid, counts=rows)

    def merge(self, parts: Sequence[Part], owned: Ownership) -> None:
        """Merge the entries that an instance owns, in the order of parts."""
        with_entries = {
            number: part.arrays
            for number, part in enumerate(parts)
            if counts_name(self.name) in part.arrays
        }
        numbers = [arrays[f"{self._prefix}slice_numbers"] for arrays in with_entries.values()]
        counts = [arrays[counts_name(self.name)] for arrays in with_entries.values()]
        if numbers:
            self._store.expect(np.concatenate(numbers), np.concatenate(counts))
        for number, arrays in with_entries.items():
            self._merge_part(number, self._owned_entries(number, arrays, owned))

    def _owned_entries(self, part: int, arrays: Arrays, owned: Ownership) -> _Entries:
        counts = arrays[counts_name(self.name)]
        state = self._own(arrays)
        numbers = np.repeat(state["slice_numbers"], counts)
        is_null = state["is_null"].view(np.bool_)
        if self._owner_of_slices is not None:
            kept = self._owner_of_slices(numbers, owned)
        else:
            kept = self._keys.owned(part, state["keys"], is_null, owned)
        kept = kept & (state["rows"] > 0)  # without rows: it was cleared
        return _Entries(numbers, state["keys"], is_null, kept, state)

    def _merge_part(self, part: int, found: _Entries) -> None:
        store, kept = self._store, found.kept
        if kept.all():
            kept = slice(None)  # type: ignore[assignment]
        times = found.numbers[kept] * store.slice_size + store.slice_offset
        words = self._keys.translated(part, found.words[kept])
        valid = read_only(~found.is_null[kept]) if found.is_null.any() else NO_NULLS
        rows = read_only(found.arrays["rows"][kept])
        slots = store.resolve(read_only(times), read_only(words), valid, counts=rows)
        partials = [
            items_of(found.arrays[name][kept], array)
            for name, array in zip(store.word_arrays, store.words, strict=True)
        ]
        self._merge_words(slots, partials)
        if self.slots_of_parts is not None:
            self.slots_of_parts[part] = self._slots_by_entry(found, slots)

    def _slots_by_entry(self, found: _Entries, slots: Slots) -> Slots:
        """Return the slot here of each entry of a part, in its first order; 0: not taken over."""
        counts = found.arrays["slice_counts"]
        by_entry = np.zeros(int(counts.sum()), dtype=np.uint32)
        entries = np.arange(len(by_entry))
        if self.order is not None:
            starts = np.cumsum(counts) - counts
            read = found.arrays["counts"]
            entries = found.arrays["places"] + np.repeat(starts, read)
        by_entry[entries[found.kept]] = slots
        return by_entry

    def _named(self, arrays: Arrays) -> dict[str, npt.NDArray[Any]]:
        return {f"{self._prefix}{name}": array for name, array in arrays.items()}

    def _own(self, arrays: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays of this table without their prefix, and ``counts``."""
        names = [*_OUTLINE, *self._entry_arrays]
        if self.order is not None:
            names.append("places")
        own = {name: arrays[f"{self._prefix}{name}"] for name in names}
        return own | {"counts": arrays[counts_name(self.name)]}
