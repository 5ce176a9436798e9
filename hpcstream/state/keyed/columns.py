"""Values of any type that are kept of each key, beside a `KeyedState`.

The value number ``i`` of ``n`` of a slot is at place ``slot * n + i``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from hpcstream.columns.arrays import fixed_values
from hpcstream.columns.ownership import Ownership
from hpcstream.columns.selection import take
from hpcstream.state.arrays import Allocator, Arrays, Slots
from hpcstream.state.keyed.store import KeyedState
from hpcstream.state.keyed.table import KeyedTable
from hpcstream.state.rows.columns import Columns
from hpcstream.state.stream_table import StreamTable
from hpcstream.state.table import Part

_SLOT = "__input_slot"


class SlotColumn(StreamTable):
    """One column of ``n`` values a slot, as a table: pieces are the blocks of the state.

    Parameters
    ----------
    state : KeyedState
    keyed : KeyedTable
        The table of the state, which is restored and merged before this one.
    data_type : pa.DataType
        No dictionary.
    n : int
    allocator : Allocator
    name : str
        Unique in the operator; begins the names of its arrays.
    """

    def __init__(
        self,
        state: KeyedState,
        keyed: KeyedTable,
        data_type: pa.DataType,
        n: int,
        allocator: Allocator,
        name: str,
    ) -> None:
        super().__init__(name)
        self._state = state
        self._keyed = keyed
        self._n = n
        self._schema = pa.schema([pa.field("value", data_type)])
        self._allocator = allocator
        self._columns = Columns(self._schema, allocator)
        self._capacity = 0
        state.on_move.append(self._move)

    @property
    def n_bytes(self) -> int:
        """Bytes reserved for values."""
        return self._columns.n_bytes

    def write(self, places: Slots, values: pa.Array) -> None:
        """Write values to places, distinct ones of slots that are in use."""
        self._follow()
        self._columns.forget(places)
        self._columns.write(places, [values])

    def take(self, places: Slots) -> pa.Array:
        """Return the values at places at which some were written."""
        return self._columns.take(places)[0]

    def forget(self, slots: Slots) -> None:
        """Give back what the values of slots take: their keys are forgotten."""
        places = self._places(slots)
        self._columns.forget(places[places < self._capacity * self._n])

    def _places(self, slots: Slots) -> Slots:
        """Return the places of the values of slots, one slot after the other."""
        each = np.arange(self._n, dtype=np.uint32)
        return (slots[:, None] * np.uint32(self._n) + each).reshape(-1)

    def _move(self, old: Slots) -> None:
        """Follow the slots, which were packed."""
        values = self._held(old)
        self._columns, self._capacity = Columns(self._schema, self._allocator), 0
        if len(old):
            self.write(self._places(np.arange(1, len(old) + 1, dtype=np.uint32)), values)

    def _follow(self) -> None:
        """Make room for the values of all slots."""
        if self._state.slots_end > self._capacity:
            self._capacity = max(2 * self._capacity, self._state.slots_end)
            self._columns.grow(self._capacity * self._n)

    def _held(self, slots: Slots) -> pa.Array:
        self._follow()
        return self.take(self._places(slots))

    # -- snapshots -----------------------------------------------------------------------

    def versions(self) -> list[tuple[str, str]]:
        """Return the blocks of the state."""
        return [(segment.name, segment.version) for segment in self._keyed.segments()]

    def rows_of(self, name: str) -> pa.RecordBatch:
        """Return the values of a block, and the slot of each."""
        slots = self._state.slots_of(np.array([int(name)]))
        columns = [pa.array(np.repeat(slots, self._n)), self._held(slots)]
        fields = [pa.field(_SLOT, pa.uint32()), *self._schema]
        return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))

    def restore(self, arrays: Arrays) -> None:
        """Put values where they were."""
        for slots, values in self._parts(arrays):
            if len(slots):
                self.write(self._places(slots), values)

    def merge(self, parts: Sequence[Part], owned: Ownership) -> None:
        """Take over the values of the keys that the state took over."""
        for number, part in enumerate(parts):
            if not self.is_in(part.arrays):
                continue
            for slots, values in self._parts(part.arrays):
                new = self._keyed.new_slots(number, slots)
                kept = np.flatnonzero(new)
                if len(kept):
                    rows = pa.array(self._places(kept.astype(np.uint32)))
                    self.write(self._places(new[kept]), take(values, rows))

    def _parts(self, arrays: Arrays) -> Iterator[tuple[Slots, pa.Array]]:
        """Yield the slots of each block of one instance, and their values."""
        for batch in self.batches_of(arrays):
            yield fixed_values(batch.column(0))[:: self._n], batch.column(1)
