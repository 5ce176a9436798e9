"""The state of each key: key -> slot, the words of a slot, and when it is due.

::

    resolve(keys) -> slots        found or made, one kernel call a batch
    words[i][slots]               state, which the operator reads and writes
    set_due(slots, times)         a timer of each key: a column like any other
    expired(w) -> slots, times    those due before a watermark
    free(slots)                   keys that are forgotten

Slots are stable until `resolve` is called again; keep none beyond, or listen by `on_move`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hpcstream.kernels import keyed_table
from hpcstream.state.arrays import NO_NULLS, Allocator, Bools, Ints, Slots, Word

NEVER = keyed_table.NEVER
"""The due time of a key that is not due."""

BLOCK_SLOTS = 1 << keyed_table.EPOCH_BITS
"""Slots of a block: what a snapshot writes again if one of them was touched."""

_LEAST_SLOTS = 1 << 10
_LEAST_ENTRIES = 1 << 11
_SPARE_SLOTS = 1 << 12  # free slots below this are not worth packing
_MOST_EXPIRED = 1 << 16

Arrays = list[npt.NDArray[Any]]


class KeyedState:
    """A slot for each key, with words and a due time.

    Parameters
    ----------
    words : sequence of Word
        What is kept of a key.
    allocator : Allocator

    Attributes
    ----------
    words : list of dtype[capacity]
        The words of each slot, in the order given. Slots that are not in use have those of a
        new key.
    keys : int64[capacity]
        The key of each slot; of the null key 0.
    due : int64[capacity]
        When each slot is due; set it by `set_due`.
    on_move : list of (old_slots) -> None
        Each is called when slots have moved: what was at ``old_slots[i]`` is at ``i + 1`` now.
    """

    def __init__(self, words: Sequence[Word], allocator: Allocator) -> None:
        self.specs = tuple(words)
        self._allocator = allocator
        self._header = np.zeros(keyed_table.N_FIELDS, dtype=np.int64)
        self._header[keyed_table.END] = 1
        self.on_move: list[Callable[[Slots], None]] = []
        self.words: Arrays = []
        self._take_arrays(_LEAST_SLOTS, [])
        self._take_index(_LEAST_ENTRIES)
        self._earliest = NEVER

    # -- keys ----------------------------------------------------------------------------

    @property
    def n_keys(self) -> int:
        """How many keys there are."""
        return int(self._header[keyed_table.N_LIVE])

    @property
    def slots_end(self) -> int:
        """A bound: all slots are less."""
        return int(self._header[keyed_table.END])

    @property
    def n_bytes(self) -> int:
        """Bytes reserved."""
        return sum(array.nbytes for array in (*self._columns(), self._free, self._index))

    def resolve(self, keys: Ints, valid: Bools = NO_NULLS) -> Slots:
        """Return the slot of each key, made where there was none.

        Parameters
        ----------
        keys : int64[n], read-only
        valid : bool[n] or bool[0], read-only
            False: null, a key of its own.
        """
        if self.n_keys * 3 < self.slots_end - _SPARE_SLOTS:
            self.pack()
        slots: Slots = np.empty(len(keys), dtype=np.uint32)
        done = 0
        while True:
            rest = valid[done:] if len(valid) else valid
            parts = (self._live, self._free, self._epochs)
            arguments = (self._header, self._index, self.keys, parts, keys[done:], rest)
            done += keyed_table.resolve(*arguments, slots[done:])
            if done == len(keys):
                return slots
            self._grow()

    def find(self, keys: Ints, valid: Bools = NO_NULLS) -> Slots:
        """Return the slot of each key, 0 where there is none; arguments as for `resolve`."""
        slots: Slots = np.empty(len(keys), dtype=np.uint32)
        keyed_table.find(self._header, self._index, keys, valid, slots)
        return slots

    def free(self, slots: Slots) -> None:
        """Forget the keys of some slots, distinct ones: each is that of a new key again."""
        parts = (self._live, self._free, self._epochs)
        keyed_table.release(self._header, self._index, self.keys, parts, slots)
        for word, array in zip(self.specs, self.words, strict=True):
            array[slots] = word.identity
        self.due[slots] = NEVER

    def live_slots(self) -> Slots:
        """Return the slots of all keys, ascending."""
        return np.flatnonzero(self._live[: self.slots_end]).astype(np.uint32)

    def is_null(self, slots: Slots) -> Bools:
        """Return which slots are that of the null key."""
        found: Bools = self._live[slots] == keyed_table.NULL
        return found

    def n_key_uses(self) -> int:
        """Return how many slots hold a key."""
        return self.n_keys

    def live_keys(self) -> Ints:
        """Return the keys there are, 0 for null."""
        return self.keys[self.live_slots()]

    def replace_keys(self, new_key_of: Ints) -> None:
        """Replace each key ``k`` by ``new_key_of[k]``, for keys that are small numbers."""
        slots = np.flatnonzero(self._live[: self.slots_end] == keyed_table.KEY)
        self.keys[slots] = new_key_of[self.keys[slots]]
        self._take_index(len(self._index) // 2)
        self._epochs[:] = self._header[keyed_table.EPOCH]

    # -- time ----------------------------------------------------------------------------

    def set_due(self, slots: Slots, times: Ints) -> None:
        """Set when slots are due; of one that is there twice the last time counts."""
        keyed_table.touch(self._header, self._epochs, slots)
        earliest = keyed_table.set_due(self.due, self._least, slots, times)
        self._earliest = min(self._earliest, earliest)

    def expired(self, watermark: int) -> tuple[Slots, Ints]:
        """Return the slots due before a watermark and when each was, by (time, slot).

        They are not due any more.
        """
        found: list[Slots] = []
        while self._earliest < watermark:
            buffer: Slots = np.empty(_MOST_EXPIRED, dtype=np.uint32)
            n_found, self._earliest = keyed_table.find_expired(
                self.due, self._least, watermark, self.slots_end, buffer
            )
            found.append(buffer[:n_found])
        slots = np.concatenate(found) if found else np.empty(0, dtype=np.uint32)
        times = self.due[slots]
        self.due[slots] = NEVER
        keyed_table.touch(self._header, self._epochs, slots)
        by_time = np.argsort(times, kind="stable")
        return slots[by_time], times[by_time]

    # -- snapshots -----------------------------------------------------------------------

    def blocks(self) -> tuple[Ints, Ints]:
        """Return when each block of `BLOCK_SLOTS` slots was touched last, and its keys.

        Times of touching are numbers of intervals; `begin_interval` begins another.
        """
        n_blocks = -(-self.slots_end // BLOCK_SLOTS)
        starts = np.arange(n_blocks) * BLOCK_SLOTS
        in_use = self._live[: self.slots_end] != keyed_table.FREE
        return self._epochs[:n_blocks].copy(), np.add.reduceat(in_use, starts, dtype=np.int64)

    def begin_interval(self) -> None:
        """Tell slots that are touched from now on from those that were before."""
        self._header[keyed_table.EPOCH] += 1

    def slots_of(self, blocks: Ints) -> Slots:
        """Return the slots of the keys of some blocks, one block after the other."""
        live = self._live[: self.slots_end]
        parts = [
            np.flatnonzero(live[first : first + BLOCK_SLOTS]) + first
            for first in (blocks * BLOCK_SLOTS).tolist()
        ]
        return np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.uint32)

    def free_slots(self) -> Slots:
        """Return the slots to give out again, the next one last."""
        return self._free[: int(self._header[keyed_table.N_FREE])].copy()

    def restore(self, slots: Slots, keys: Ints, is_null: Bools, free: Slots) -> None:
        """Take over keys in their slots, and the slots that are free, in an empty state.

        Their words are set afterwards, by their slots.
        """
        end = len(slots) + len(free) + 1
        capacity = len(self._live)
        while capacity < end:
            capacity *= 2
        self._take_arrays(capacity, [])
        self._header[[keyed_table.END, keyed_table.N_FREE]] = end, len(free)
        self._header[keyed_table.N_LIVE] = len(slots)
        self.keys[slots] = keys
        self._live[slots] = np.where(is_null, keyed_table.NULL, keyed_table.KEY)
        self._free[: len(free)] = free
        self._take_index(max(2 * capacity, _LEAST_ENTRIES))

    # -- room ----------------------------------------------------------------------------

    def pack(self) -> None:
        """Move all keys to the first slots, and give back what is not needed."""
        old = self.live_slots()
        capacity = _LEAST_SLOTS
        while capacity < 2 * len(old):
            capacity *= 2
        self._take_arrays(capacity, [column[old] for column in self._columns()])
        self._header[keyed_table.END] = len(old) + 1
        self._header[keyed_table.N_FREE] = 0
        self._take_index(max(2 * capacity, _LEAST_ENTRIES))
        self._find_least()
        for listener in self.on_move:
            listener(old)

    def _grow(self) -> None:
        """Make room for another key: in the arrays, or in the index."""
        if self.slots_end == len(self._live) and not self._header[keyed_table.N_FREE]:
            free = self._free[:0]
            columns = [column[1 : self.slots_end] for column in self._columns()]
            epochs = self._epochs
            self._take_arrays(2 * len(self._live), columns)
            self._epochs[: len(epochs)] = epochs
            self._free[: len(free)] = free
            self._find_least()
        else:
            self._take_index(len(self._index))

    def _columns(self) -> Arrays:
        return [self.keys, self._live, self.due, *self.words]

    def _take_arrays(self, capacity: int, columns: Arrays) -> None:
        """Take arrays with room for so many slots, and what slots from 1 on hold."""
        fields = [Word("key", "int64", 0), Word("live", "uint8", 0), Word("due", "int64", NEVER)]
        taken = []
        for number, field in enumerate((*fields, *self.specs)):
            array, identity = self._allocator.empty(capacity, field.kind), field.identity
            n_held = 1
            if columns:
                n_held += len(columns[number])
                array[1:n_held] = columns[number]
            array[0] = identity
            array[n_held:] = identity
            taken.append(array)
        self.keys, self._live, self.due, *self.words = taken
        self._free: Slots = self._allocator.empty(capacity, np.uint32)
        n_epochs = (capacity >> keyed_table.EPOCH_BITS) + 1
        self._epochs: Ints = np.full(n_epochs, self._header[keyed_table.EPOCH], dtype=np.int64)
        n_blocks = (capacity >> keyed_table.DUE_BITS) + 1
        self._least: Ints = np.full(n_blocks, NEVER, dtype=np.int64)

    def _take_index(self, n_entries: int) -> None:
        """Take an index with so many entries, a power of two, and enter all keys."""
        self._index: Ints = np.zeros(2 * n_entries, dtype=np.int64)
        self._header[keyed_table.SHIFT] = 65 - n_entries.bit_length()
        keyed_table.fill_index(self._header, self._index, self.keys, self._live)

    def _find_least(self) -> None:
        self._earliest = keyed_table.find_least(self.due, self.slots_end, self._least)
