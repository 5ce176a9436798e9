"""The entries of a `KeyedState` as a table: a segment for each block of slots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hpcstream.columns.ownership import Ownership
from hpcstream.columns.selection import gather
from hpcstream.state.arrays import NO_NULLS, Arrays, Ints, Slots, read_only
from hpcstream.state.group_order import in_group_order
from hpcstream.state.keyed.store import KeyedState
from hpcstream.state.slices.table import SliceKeys
from hpcstream.state.table import Order, Part, Segment, StateTable, TableCopy, counts_name
from hpcstream.state.word_arrays import items_of

STRIDE = 64
"""The index has the key group of so many entries' first one."""

_NONE = np.zeros(0, dtype=np.int64)


class KeyedTable(StateTable):
    """Keys in their slots, with words and due times; a block that nobody touched is not copied.

    Parameters
    ----------
    state : KeyedState
    keys : SliceKeys
        What the words of keys mean. A table of theirs is merged before this one.
    name : str
        Unique in the operator; begins the names of its arrays.
    """

    def __init__(self, state: KeyedState, keys: SliceKeys, name: str = "keyed") -> None:
        self.name = name
        self.order = Order("", f"{name}:key_groups", STRIDE)
        self._state = state
        self._keys = keys
        self._new_slots: dict[int, Slots] = {}

    @property
    def n_bytes(self) -> int:
        """Bytes reserved for keys and their words."""
        return self._state.n_bytes

    def head(self) -> dict[str, npt.NDArray[Any]]:
        """Return the slots that are free."""
        return {f"{self.name}:free": self._state.free_slots()}

    def segments(self) -> Sequence[Segment]:
        """Return the blocks."""
        epochs, counts = (array.tolist() for array in self._state.blocks())
        generation = self._keys.generation
        return [
            Segment(str(block), f"{epoch}/{generation}", count)
            for block, (epoch, count) in enumerate(zip(epochs, counts, strict=True))
        ]

    def copy(self, indices: Ints) -> TableCopy:
        """Return copies of the entries of some blocks."""
        state, slots = self._state, self._state.slots_of(indices)
        state.begin_interval()
        counts = state.blocks()[1][indices]
        is_null = state.is_null(slots)
        arrays = {
            "slots": slots,
            "keys": gather(state.keys, slots),
            "is_null": is_null.view(np.uint8),
            "due": gather(state.due, slots),
        }
        arrays |= {f"word:{w.name}": _items(a, slots) for w, a in self._words()}
        named = {f"{self.name}:{name}": array for name, array in arrays.items()}
        grouping, order = self._keys.grouping(), self.order
        assert order is not None, "it was given one"

        def finish() -> dict[str, npt.NDArray[Any]]:
            groups = grouping(arrays["keys"], arrays["is_null"].view(np.bool_))
            return in_group_order(named, groups, counts, order)

        return TableCopy(named, finish)

    def restore(self, arrays: Arrays) -> None:
        """Take over keys in the slots in which they were."""
        own = self._own(arrays)
        is_null = own["is_null"].view(np.bool_)
        self._state.restore(own["slots"], own["keys"], is_null, own["free"])
        self._take_over(own["slots"], own, slice(None))

    def merge(self, parts: Sequence[Part], owned: Ownership) -> None:
        """Take over the keys that an instance owns, in the order of parts."""
        self._new_slots = {}
        for number, part in enumerate(parts):
            if counts_name(self.name) not in part.arrays:
                continue
            own = self._own(part.arrays)
            is_null = own["is_null"].view(np.bool_)
            kept = np.flatnonzero(self._keys.owned(number, own["keys"], is_null, owned))
            words = self._keys.translated(number, own["keys"][kept])
            valid = read_only(~is_null[kept]) if is_null.any() else NO_NULLS
            slots = self._state.resolve(read_only(words), valid)
            self._take_over(slots, own, kept)
            before = own["slots"]
            new_slots = np.zeros(int(before.max(initial=0)) + 1, dtype=np.uint32)
            new_slots[before[kept]] = slots
            self._new_slots[number] = new_slots

    def new_slots(self, part: int, slots: Slots) -> Slots:
        """Return where what a part had in some slots is now; 0: it was not taken over.

        For tables of what is kept beside, by slot; they are merged after this one.
        """
        known = self._new_slots.get(part, np.zeros(1, dtype=np.uint32))
        return np.where(slots < len(known), known.take(slots, mode="clip"), np.uint32(0))

    def _take_over(self, slots: Slots, own: Arrays, kept: Any) -> None:
        """Set words and due times of slots from entries."""
        for word, array in self._words():
            array[slots] = items_of(own[f"word:{word.name}"][kept], array)
        self._state.set_due(slots, np.ascontiguousarray(own["due"][kept]))

    def _words(self) -> list[tuple[Any, npt.NDArray[Any]]]:
        return list(zip(self._state.specs, self._state.words, strict=True))

    def _own(self, arrays: Arrays) -> Arrays:
        prefix = f"{self.name}:"
        return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}


def _items(array: npt.NDArray[Any], slots: Slots) -> npt.NDArray[Any]:
    """Return what slots hold, an item a slot: of several numbers one record of bytes."""
    if array.ndim == 1:
        return gather(array, slots)
    items = np.ascontiguousarray(array[slots])
    return items.view(np.dtype((np.void, items.itemsize * items.shape[1]))).reshape(-1)
