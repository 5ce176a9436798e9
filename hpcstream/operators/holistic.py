"""Values kept until their window closes, for aggregates that a few words cannot hold.

For each input column there is a list of chunks: values that are not null, as
they came, each with the slot of its entry. A slot is only a place; when the
store packs, the chunks follow. Where only distinct values matter (distinct
counts, least, greatest), repeated ones are thrown away from time to time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hpcstream.operators.aggregates import NamedAggregate, kept_type, result_type
from hpcstream.operators.group_functions import GroupedValues, group_result
from hpcstream.state.arrays import Ints, Places, Slots
from hpcstream.state.slice_store import SliceStore

if TYPE_CHECKING:
    from hpcstream.operators.window_spec import WindowAggregateSpec

Arrays = Mapping[str, npt.NDArray[Any]]

_DISTINCT_SUFFICES = frozenset(("count_distinct", "min", "max"))
_LEAST_REDUCTION = 1 << 18  # rows before repeated values are looked for


@dataclass(frozen=True)
class _Chunk:
    slots: Slots
    values: pa.Array
    times: Ints
    orders: Ints

    def filter(self, keep: npt.NDArray[np.bool_]) -> _Chunk:
        return _Chunk(
            self.slots[keep],
            self.values.filter(pa.array(keep)),
            self.times[keep] if len(self.times) else self.times,
            self.orders[keep] if len(self.orders) else self.orders,
        )


_NO_TIMES: Ints = np.zeros(0, dtype=np.int64)


class ColumnBuffer:
    """The kept values of one column."""

    def __init__(self, name: str, data_type: pa.DataType, functions: set[str]) -> None:
        self.name = name
        self._type = kept_type(data_type)
        self.needs_times = bool(functions & {"first", "last"})
        self._distinct_suffices = functions <= _DISTINCT_SUFFICES
        self._chunks: list[_Chunk] = []
        self._n_rows = 0
        self._n_reduced = 0

    @property
    def n_bytes(self) -> int:
        """Bytes of the values."""
        return sum(chunk.values.nbytes + chunk.slots.nbytes for chunk in self._chunks)

    def add(self, column: pa.Array, slots: Slots, times: Ints, orders: Ints) -> None:
        """Keep a copy of the values that are not null and have a slot."""
        is_kept = slots != 0
        if column.null_count:
            is_kept &= column.is_valid().to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(is_kept)
        if pa.types.is_dictionary(column.type):
            column = column.take(pa.array(rows)).dictionary_decode()
            values = column if column.type == self._type else column.cast(self._type)
        else:
            kept = column if column.type == self._type else column.cast(self._type)
            values = kept.take(pa.array(rows))
        timed = (times[rows], orders[rows]) if self.needs_times else (_NO_TIMES, _NO_TIMES)
        self._chunks.append(_Chunk(slots[rows], values, *timed))
        self._n_rows += len(rows)
        if self._distinct_suffices and self._n_rows > 2 * self._n_reduced + _LEAST_REDUCTION:
            self._reduce()

    def move(self, new_of_old: Slots) -> None:
        """Follow entries to new slots; 0 for those that are gone."""
        moved = [replace(chunk, slots=new_of_old[chunk.slots]) for chunk in self._chunks]
        self._chunks = [self._without_dead(chunk) for chunk in moved if chunk.slots.any()]
        self._n_rows = sum(len(chunk.slots) for chunk in self._chunks)

    def take_over(self, other: ColumnBuffer, new_of_old: Slots) -> None:
        """Add the values of another buffer whose entries have a slot here; 0: they have none."""
        moved = [replace(chunk, slots=new_of_old[chunk.slots]) for chunk in other._chunks]
        own = [chunk.filter(chunk.slots != 0) for chunk in moved if chunk.slots.any()]
        self._chunks += own
        self._n_rows += sum(len(chunk.slots) for chunk in own)

    def select(self, ordinals: Ints, n_groups: int) -> GroupedValues:
        """Return the values of entries: ``ordinals[slot]`` is their group, -1 for none."""
        parts = []
        for chunk in self._chunks:
            keep = ordinals[chunk.slots] >= 0
            if keep.any():
                parts.append(chunk if keep.all() else chunk.filter(keep))
        chunk = self._joined(parts)
        groups = ordinals[chunk.slots]
        return GroupedValues(groups, chunk.values, chunk.times, chunk.orders, n_groups)

    def snapshot(self, place_of_slot: Ints) -> dict[str, npt.NDArray[Any]]:
        """Return the values with the places of their entries in the store's snapshot."""
        alive = [chunk for chunk in self._chunks if len(chunk.slots)]
        chunk = self._joined(alive)
        chunk = chunk.filter(place_of_slot[chunk.slots] >= 0)
        return {
            f"values:{self.name}:entries": place_of_slot[chunk.slots],
            f"values:{self.name}:times": chunk.times,
            f"values:{self.name}:orders": chunk.orders,
            f"values:{self.name}:values": array_bytes(chunk.values),
        }

    def restore(self, state: Arrays, slots: Slots) -> None:
        """Take over a snapshot; ``slots`` are those of the store's entries, in its order."""
        chunk = _Chunk(
            slots[state[f"values:{self.name}:entries"]],
            array_of_bytes(state[f"values:{self.name}:values"]),
            np.array(state[f"values:{self.name}:times"]),
            np.array(state[f"values:{self.name}:orders"]),
        )
        self._chunks = [chunk]
        self._n_rows = self._n_reduced = len(chunk.slots)

    def _reduce(self) -> None:
        """Keep each value once per entry."""
        chunk = self._joined(self._chunks)
        table = pa.table({"slot": chunk.slots, "value": chunk.values})
        distinct = table.group_by(["slot", "value"], use_threads=False).aggregate([])
        slots = distinct.column("slot").to_numpy()
        values = distinct.column("value").combine_chunks()
        self._chunks = [_Chunk(np.array(slots), values, _NO_TIMES, _NO_TIMES)]
        self._n_rows = self._n_reduced = len(slots)

    def _joined(self, chunks: Sequence[_Chunk]) -> _Chunk:
        if len(chunks) == 1:
            return chunks[0]
        if not chunks:
            none = np.zeros(0, dtype=np.uint32)
            return _Chunk(none, pa.nulls(0, self._type), _NO_TIMES, _NO_TIMES)
        return _Chunk(
            np.concatenate([chunk.slots for chunk in chunks]),
            pa.concat_arrays([chunk.values for chunk in chunks]),
            np.concatenate([chunk.times for chunk in chunks]),
            np.concatenate([chunk.orders for chunk in chunks]),
        )

    @staticmethod
    def _without_dead(chunk: _Chunk) -> _Chunk:
        n_alive = np.count_nonzero(chunk.slots)
        return chunk.filter(chunk.slots != 0) if 2 * n_alive < len(chunk.slots) else chunk


class HolisticRows:
    """The kept values of all columns that the holistic aggregates read."""

    def __init__(self, spec: WindowAggregateSpec, store: SliceStore) -> None:
        self._schema = spec.input_schema
        self._store = store
        functions: dict[str, set[str]] = {}
        for aggregate in spec.holistic_aggregates:
            assert aggregate.input is not None
            functions.setdefault(aggregate.input, set()).add(aggregate.function)
        self.buffers = {
            name: ColumnBuffer(name, self._schema.field(name).type, functions[name])
            for name in functions
        }
        self._parts: list[tuple[Places, Places]] = []
        store.on_move = self._move

    @property
    def n_bytes(self) -> int:
        """Bytes of the values."""
        return sum(buffer.n_bytes for buffer in self.buffers.values())

    def add(self, batch: pa.RecordBatch, slots: Slots, times: Ints, orders: Ints) -> None:
        """Keep the values of a batch."""
        for name, buffer in self.buffers.items():
            buffer.add(batch.column(name), slots, times, orders)

    def take_over(self, other: HolisticRows, new_of_old: Slots) -> None:
        """Add the values of another state whose entries have a slot here."""
        for name, buffer in self.buffers.items():
            buffer.take_over(other.buffers[name], new_of_old)

    def set_parts(self, parts: list[tuple[Places, Places]]) -> None:
        """Say which entries (first) went into which of the window's (second)."""
        self._parts = parts

    def select(self, slots: Slots) -> dict[str, GroupedValues]:
        """Return the values of entries of a window, grouped by their place in ``slots``."""
        ordinals = np.full(self._store.slots_end, -1, dtype=np.int64)
        ordinals[slots] = np.arange(len(slots))
        if self._parts:
            of_window, ordinals = ordinals, np.full_like(ordinals, -1)
            for source, target in self._parts:
                ordinals[_as_index(source)] = of_window[_as_index(target)]
        return {n: buffer.select(ordinals, len(slots)) for n, buffer in self.buffers.items()}

    def forget(self, regions: Ints) -> None:
        """Drop the values of regions that are about to close."""
        new_of_old = np.arange(self._store.slots_end, dtype=np.uint32)
        slots, _ = self._store.slots_of(regions)
        new_of_old[slots] = 0
        for buffer in self.buffers.values():
            buffer.move(new_of_old)

    def results(self, aggregate: NamedAggregate, selected: Mapping[str, GroupedValues]) -> pa.Array:
        """Return an aggregate's results for the groups of `select`."""
        assert aggregate.input is not None
        output_type = result_type(aggregate, self._schema)
        return group_result(aggregate, selected[aggregate.input], output_type)

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """Return all values; entries are named by their place in the store's snapshot."""
        slots = self._store.snapshot_slots()
        places = np.full(self._store.slots_end, -1, dtype=np.int64)
        places[slots] = np.arange(len(slots))
        state: dict[str, npt.NDArray[Any]] = {}
        for buffer in self.buffers.values():
            state.update(buffer.snapshot(places))
        return state

    def restore(self, state: Arrays) -> None:
        """Take over a snapshot, after the store has."""
        slots = self._store.snapshot_slots()
        for buffer in self.buffers.values():
            buffer.restore(state, slots)

    def _move(self, old: Slots, slots_end: int) -> None:
        new_of_old = np.zeros(slots_end, dtype=np.uint32)
        new_of_old[old] = np.arange(1, len(old) + 1)
        for buffer in self.buffers.values():
            buffer.move(new_of_old)


def _as_index(places: Places) -> Slots | slice:
    return slice(places.start, places.stop) if isinstance(places, range) else places


def array_bytes(values: pa.Array) -> npt.NDArray[np.uint8]:
    """Return an array as the bytes of an Arrow stream."""
    sink = pa.BufferOutputStream()
    batch = pa.RecordBatch.from_arrays([values], names=["values"])
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return np.frombuffer(sink.getvalue(), dtype=np.uint8)


def array_of_bytes(stored: npt.NDArray[np.uint8]) -> pa.Array:
    """Return the array of `array_bytes`."""
    with pa.ipc.open_stream(pa.py_buffer(np.ascontiguousarray(stored).tobytes())) as reader:
        return reader.read_all().column(0).combine_chunks()
