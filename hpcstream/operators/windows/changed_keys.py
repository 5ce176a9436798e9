"""The (slice, key) pairs that received rows after a window with that slice fired.

A window that fires again emits only the keys that changed since its last firing. The pairs
are kept until the next firing: at most one for each row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hpcstream.columns.ownership import Ownership, owned_rows
from hpcstream.columns.selection import take_column
from hpcstream.operators.windows.kept_values import array_bytes, array_of_bytes
from hpcstream.operators.windows.merge import Entries
from hpcstream.operators.windows.slices import WindowState
from hpcstream.state.arrays import Arrays, Bools, Ints, Slots
from hpcstream.state.table import Part, StateTable

_NUMBERS, _KEYS = "changed_slices", "changed_keys"


class ChangedKeys(StateTable):
    """The (slice, key) pairs of one operator that received rows since its windows last fired.

    Parameters
    ----------
    state : WindowState
        The slices and keys of the operator; its codec encodes the keys as words.
    """

    name = "changed_keys"

    def __init__(self, state: WindowState) -> None:
        self._state = state
        self._slicing = state.spec.slicing
        self._parts: list[tuple[Ints, Ints, Bools]] = []  # slices, words of keys, which are null

    def note(self, batch: pa.RecordBatch, rows: Ints) -> None:
        """Add the pairs of some rows of a batch."""
        grid = self._slicing.grid
        numbers = (self._state.times(batch)[rows] - grid.store_offset) // grid.store_size
        taken = rows.astype(np.int32)
        keys = {name: take_column(batch.column(name), taken) for name in self._state.spec.keys}
        self._note_keys(numbers, pa.record_batch(keys))

    def clear(self) -> None:
        """Remove all pairs: their windows have fired."""
        self._parts.clear()

    def of(self, entries: Entries) -> Entries | None:
        """Return the entries that changed; ``entries`` are in window order."""
        windows, slots, is_null = entries
        return kept_entries(entries, self.mask(windows, slots, is_null))

    def mask(self, windows: Ints, slots: Slots, is_null: Bools | None) -> Bools:
        """Return which entries of windows, which are in window order, changed."""
        numbers, words, nulls = self._sorted()
        keys = self._state.store.keys_of(slots)
        keep = np.zeros(len(slots), dtype=np.bool_)
        firsts, stops = self._slicing.layout.ranges_of(windows)
        lows, highs = np.searchsorted(numbers, firsts), np.searchsorted(numbers, stops)
        is_first = (np.diff(lows, prepend=-1) != 0) | (np.diff(highs, prepend=-1) != 0)
        heads = np.flatnonzero(is_first).tolist()  # consecutive windows with the same pairs
        for first, stop in zip(heads, [*heads[1:], len(windows)], strict=True):
            pairs = slice(int(lows[first]), int(highs[first]))
            keep[first:stop] = np.isin(keys[first:stop], words[pairs][~nulls[pairs]])
            if is_null is not None:
                keep[first:stop][is_null[first:stop]] = nulls[pairs].any()
        return keep

    def head(self) -> dict[str, npt.NDArray[Any]]:
        """Return the pairs: slice numbers, and the key columns as bytes of an Arrow stream."""
        numbers, words, nulls = self._sorted()
        columns = self._state.codec.decode(words, nulls if nulls.any() else None)
        keys = pa.StructArray.from_arrays(columns, fields=list(self._state.spec.key_fields))
        return {_NUMBERS: numbers, _KEYS: array_bytes(keys)}

    def restore(self, arrays: Arrays) -> None:
        """Restore the pairs; the keys of the state are restored before."""
        self._note_keys(*self._stored(arrays))

    def merge(self, parts: Sequence[Part], owned: Ownership) -> None:
        """Add the pairs whose keys the instance owns; local stages have none."""
        for part in parts:
            if not part.is_local:
                numbers, keys = self._stored(part.arrays)
                mine = owned_rows(keys, self._state.spec.keys, owned)
                self._note_keys(numbers[mine], keys.take(pa.array(mine)))

    def _stored(self, arrays: Arrays) -> tuple[Ints, pa.RecordBatch]:
        columns = array_of_bytes(arrays[_KEYS]).flatten()
        schema = pa.schema(list(self._state.spec.key_fields))
        return arrays[_NUMBERS], pa.RecordBatch.from_arrays(columns, schema=schema)

    def _note_keys(self, numbers: Ints, keys: pa.RecordBatch) -> None:
        if not len(numbers):
            return
        words, valid = self._state.codec.encode(keys)
        nulls = ~valid if len(valid) else np.zeros(len(words), dtype=np.bool_)
        self._parts.append((np.array(numbers), np.array(words), nulls))

    def _sorted(self) -> tuple[Ints, Ints, Bools]:
        """Return all pairs, sorted by slice, without duplicates."""
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


def kept_entries(entries: Entries, keep: Bools) -> Entries | None:
    """Return some of the entries of windows; None if there are none."""
    windows, slots, is_null = entries
    if keep.all():
        return entries
    kept = None if is_null is None else is_null[keep]
    return (windows[keep], slots[keep], kept) if keep.any() else None
