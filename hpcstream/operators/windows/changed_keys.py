"""Which keys of which slices got rows after windows that hold them had fired.

A window that fires again emits the keys that changed since it fired, and no others.
What is noted lives until the next firing: a (slice, key) pair for each row at most.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from hpcstream.columns.selection import picked_column
from hpcstream.operators.windows.kept_values import array_bytes, array_of_bytes
from hpcstream.operators.windows.merge import Entries
from hpcstream.operators.windows.rescale import Owned, owned_by_key
from hpcstream.operators.windows.slices import WindowState
from hpcstream.state.arrays import Bools, Ints
from hpcstream.state.snapshots import Share, Snapshot

_NUMBERS, _KEYS = "changed_slices", "changed_keys"


class ChangedKeys:
    """The (slice, key) pairs of one operator that got rows since its windows last fired.

    Parameters
    ----------
    state : WindowState
        Whose keys they are: words of keys are its codec's.
    """

    def __init__(self, state: WindowState) -> None:
        self._state = state
        self._slicing = state.spec.slicing
        self._parts: list[tuple[Ints, Ints, Bools]] = []  # slices, words of keys, which are null

    def note(self, batch: pa.RecordBatch, rows: Ints) -> None:
        """Note the pairs of some rows of a batch."""
        slicing = self._slicing
        numbers = (self._state.times(batch)[rows] - slicing.offset) // slicing.slice_size
        places = rows.astype(np.int32)
        keys = {name: picked_column(batch.column(name), places) for name in self._state.spec.keys}
        self._note_keys(numbers, pa.record_batch(keys))

    def clear(self) -> None:
        """Forget all pairs: the windows that hold them have fired."""
        self._parts.clear()

    def of(self, entries: Entries) -> Entries | None:
        """Return those entries of windows, which are in window order, that changed."""
        windows, slots, is_null = entries
        numbers, words, nulls = self._sorted()
        keys = self._state.store.keys_of(slots)
        keep = np.zeros(len(slots), dtype=np.bool_)
        starts = windows * self._slicing.per_slide
        lows = np.searchsorted(numbers, starts)
        highs = np.searchsorted(numbers, starts + self._slicing.per_window)
        is_first = (np.diff(lows, prepend=-1) != 0) | (np.diff(highs, prepend=-1) != 0)
        firsts = np.flatnonzero(is_first).tolist()  # neighbours with the same pairs go together
        for first, stop in zip(firsts, [*firsts[1:], len(windows)], strict=True):
            pairs = slice(int(lows[first]), int(highs[first]))
            keep[first:stop] = np.isin(keys[first:stop], words[pairs][~nulls[pairs]])
            if is_null is not None:
                keep[first:stop][is_null[first:stop]] = nulls[pairs].any()
        if keep.all():
            return entries
        kept = None if is_null is None else is_null[keep]
        return (windows[keep], slots[keep], kept) if keep.any() else None

    def snapshot(self) -> Snapshot:
        """Return the pairs: numbers of slices, and the key columns as bytes of an Arrow stream."""
        numbers, words, nulls = self._sorted()
        columns = self._state.codec.decode(words, nulls if nulls.any() else None)
        keys = pa.StructArray.from_arrays(columns, fields=list(self._state.spec.key_fields))
        return {_NUMBERS: numbers, _KEYS: array_bytes(keys)}

    def restore(self, snapshot: Snapshot) -> None:
        """Take over a snapshot, after the state has."""
        self._restore([snapshot], lambda numbers, keys: np.arange(len(numbers)))

    def restore_share(self, snapshots: Sequence[Snapshot], share: Share) -> None:
        """Take over the pairs of an instance's keys, after the state has."""
        self._restore(snapshots, owned_by_key(self._state.spec, share))

    def _restore(self, snapshots: Sequence[Snapshot], owned: Owned) -> None:
        self.clear()
        if not all(_NUMBERS in snapshot for snapshot in snapshots):
            self._note_all()
            return
        for snapshot in snapshots:
            numbers = snapshot[_NUMBERS]
            if len(numbers):
                columns = array_of_bytes(snapshot[_KEYS]).flatten()
                schema = pa.schema(list(self._state.spec.key_fields))
                keys = pa.RecordBatch.from_arrays(columns, schema=schema)
                mine = owned(numbers, keys)
                self._note_keys(numbers[mine], keys.take(pa.array(mine)))

    def _note_all(self) -> None:
        """Note all entries: earlier versions did not say which had changed."""
        numbers, regions = self._state.store.slices_below(2**63 - 1)
        for of_entries, slots, is_null in self._state.entry_groups(numbers, regions):
            nulls = np.zeros(len(slots), np.bool_) if is_null is None else is_null
            self._parts.append((of_entries, self._state.store.keys_of(slots), nulls))

    def _note_keys(self, numbers: Ints, keys: pa.RecordBatch) -> None:
        if not len(numbers):
            return
        words, valid = self._state.codec.encode(keys)
        nulls = ~valid if len(valid) else np.zeros(len(words), dtype=np.bool_)
        self._parts.append((np.array(numbers), np.array(words), nulls))

    def _sorted(self) -> tuple[Ints, Ints, Bools]:
        """Return all pairs in the order of slices."""
        if not self._parts:
            none = np.zeros(0, dtype=np.int64)
            return none, none, np.zeros(0, dtype=np.bool_)
        numbers, words, nulls = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        order = np.lexsort((words, nulls, numbers))
        numbers, words, nulls = numbers[order], words[order], nulls[order]
        is_new = np.ones(len(numbers), dtype=np.bool_)
        is_new[1:] = np.diff(numbers) != 0
        is_new[1:] |= (np.diff(nulls.view(np.int8)) != 0) | (words[1:] != words[:-1])
        self._parts = [(numbers[is_new], words[is_new], nulls[is_new])]
        return self._parts[0]
