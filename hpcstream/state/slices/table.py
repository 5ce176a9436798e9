"""The entries of a `SliceStore` as a table: a segment for each slice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from hpcstream.columns.ownership import KeyGroups, Ownership
from hpcstream.state.arrays import NO_NULLS, Arrays, Bools, Ints, Slots, read_only
from hpcstream.state.group_order import in_group_order
from hpcstream.state.slices.loading import (
    NO_ORDER,
    KeyColumns,
    Outline,
    SliceLoader,
    first_order,
    load_words,
)
from hpcstream.state.slices.store import SliceStore
from hpcstream.state.table import Order, Part, Segment, StateTable, TableCopy, counts_name
from hpcstream.state.word_arrays import items_of

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
    """Entries of a part, and which of them an instance takes over.

    Attributes
    ----------
    columns : KeyColumns
        Of all that were read, keys as they are here.
    chosen : slice or int64[n]
        Those that are taken over.
    counts : int64[n_segments]
        How many these are of each slice.
    is_apart : bool
        No other part has one of the same slice and key.
    arrays : mapping of str to array
        Of the part.
    """

    columns: KeyColumns
    chosen: slice | Ints
    counts: Ints
    is_apart: bool
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
        state, loader = self._own(arrays), self._store.loader()
        outline = Outline(*(state[name] for name in _OUTLINE[:4]))
        columns = _key_columns(state)
        order = NO_ORDER
        if self.order is not None:
            order = first_order(state["places"], outline.counts)
        loader.restore_dense(state["dense_range"])
        loader.open(outline, [columns])
        slots = loader.load(outline.numbers, outline.counts, columns, order)
        loader.index()
        for name, array in zip(self._store.word_arrays, self._store.words, strict=True):
            load_words(state[name], order, slots, array)

    def merge(self, parts: Sequence[Part], owned: Ownership) -> None:
        """Merge the entries that an instance owns, in the order of parts.

        Those of final stages are loaded: a key is in one of them only. Those of local stages
        may have keys of others.
        """
        found = {
            number: self._owned_entries(number, part, owned)
            for number, part in enumerate(parts)
            if counts_name(self.name) in part.arrays
        }
        if not found:
            return
        loader = self._store.loader()
        segments = [(one.arrays["slice_numbers"], one.arrays["counts"]) for one in found.values()]
        outline = Outline.of_parts(*zip(*segments, strict=True))
        loader.open(outline, [one.columns for one in found.values()])
        for number, one in found.items():
            if one.is_apart:
                self._note_slots(number, one, self._load(loader, one))
        loader.index()
        for number, one in found.items():
            if not one.is_apart:
                self._note_slots(number, one, self._merge_entries(one))

    def _owned_entries(self, number: int, part: Part, owned: Ownership) -> _Entries:
        state = self._own(part.arrays)
        columns = _key_columns(state)
        if self._owner_of_slices is not None:
            numbers = np.repeat(state["slice_numbers"], state["counts"])
            kept = self._owner_of_slices(numbers, owned)
        else:
            kept = self._keys.owned(number, columns.words, columns.is_null, owned)
        kept = kept & (columns.rows > 0)  # without rows: it was cleared
        columns = columns._replace(words=self._keys.translated(number, columns.words))
        is_apart = self.order is not None and not part.is_local
        return _Entries(columns, *_chosen(kept, state["counts"]), is_apart, state)

    def _load(self, loader: SliceLoader, found: _Entries) -> Slots:
        """Load entries of keys that are nowhere else; return their slots."""
        columns, order, chosen = found.columns, NO_ORDER, found.chosen
        if isinstance(chosen, slice):
            columns = columns.between(chosen)
        else:
            order, chosen = read_only(chosen.astype(np.uint32)), slice(None)
        slots = loader.load(found.arrays["slice_numbers"], found.counts, columns, order)
        for name, array in zip(self._store.word_arrays, self._store.words, strict=True):
            load_words(found.arrays[name][chosen], order, slots, array)
        return slots

    def _merge_entries(self, found: _Entries) -> Slots:
        """Merge entries into those of the same keys; return their slots (scratch)."""
        store, chosen = self._store, found.chosen
        numbers = np.repeat(found.arrays["slice_numbers"], found.counts)
        times = numbers * store.slice_size + store.slice_offset
        words, is_null, rows = (column[chosen] for column in found.columns)
        valid = read_only(~is_null) if is_null.any() else NO_NULLS
        slots = store.resolve(read_only(times), read_only(words), valid, counts=read_only(rows))
        partials = [
            items_of(found.arrays[name][chosen], array)
            for name, array in zip(store.word_arrays, store.words, strict=True)
        ]
        self._merge_words(slots, partials)
        return slots

    def _note_slots(self, number: int, found: _Entries, slots: Slots) -> None:
        """Note the slot here of each entry of a part, in its first order; 0: not taken over."""
        if self.slots_of_parts is None:
            return
        counts = found.arrays["slice_counts"]
        by_entry = np.zeros(int(counts.sum()), dtype=np.uint32)
        entries = np.arange(len(by_entry))
        if self.order is not None:
            starts = np.cumsum(counts) - counts
            entries = found.arrays["places"] + np.repeat(starts, found.arrays["counts"])
        by_entry[entries[found.chosen]] = slots
        self.slots_of_parts[number] = by_entry

    def _named(self, arrays: Arrays) -> dict[str, npt.NDArray[Any]]:
        return {f"{self._prefix}{name}": array for name, array in arrays.items()}

    def _own(self, arrays: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays of this table without their prefix, and ``counts``."""
        names = [*_OUTLINE, *self._entry_arrays]
        if self.order is not None:
            names.append("places")
        own = {name: arrays[f"{self._prefix}{name}"] for name in names}
        return own | {"counts": arrays[counts_name(self.name)]}


def _key_columns(state: Arrays) -> KeyColumns:
    return KeyColumns(state["keys"], state["is_null"].view(np.bool_), state["rows"])


def _chosen(kept: Bools, counts: Ints) -> tuple[slice | Ints, Ints]:
    """Return which entries are kept, and how many of each segment."""
    ends = np.cumsum(counts)
    first, stop = 0, 0
    if kept.any():
        first, stop = int(kept.argmax()), len(kept) - int(kept[::-1].argmax())
    if kept[first:stop].all():  # as of a single segment: those of some key groups
        upto = np.clip(ends, first, stop) - first
        return slice(first, stop), np.diff(upto, prepend=0)
    entries = np.flatnonzero(kept)
    return entries, np.diff(np.searchsorted(entries, ends), prepend=0)
