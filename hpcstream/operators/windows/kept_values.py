"""Buffers values until their window closes, for aggregates whose state is not a few words.

Each input column has a list of chunks: values that are not null, in order of arrival, each
with the slot of its entry. When the store moves entries to other slots, the chunks are
updated. A window that is merged from slices finds the values of their entries by slot and
reads no others. Where only distinct values matter (distinct counts, minimum, maximum),
duplicates are removed from time to time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hpcstream.aggregates.grouped_values import GroupedValues
from hpcstream.aggregates.kept_columns import KeptColumns
from hpcstream.columns.ownership import Ownership
from hpcstream.columns.row_order import NO_PLACES, RowTimes
from hpcstream.columns.selection import take
from hpcstream.state.arrays import Ints, Slots
from hpcstream.state.slices.store import SliceStore
from hpcstream.state.slices.table import SliceTable
from hpcstream.state.table import Part, StateTable

if TYPE_CHECKING:
    from hpcstream.operators.windows.spec import WindowAggregateSpec

Arrays = Mapping[str, npt.NDArray[Any]]

_LEAST_REDUCTION = 1 << 18  # rows before duplicates are removed


@dataclass(frozen=True)
class _Chunk:
    slots: Slots
    values: pa.Array
    when: RowTimes

    def take(self, rows: Ints) -> _Chunk:
        when = self.when.take(rows) if len(self.when.times) else self.when
        return _Chunk(self.slots[rows], self.values.take(pa.array(rows)), when)

    def filter(self, keep: npt.NDArray[np.bool_]) -> _Chunk:
        when = self.when.take(np.flatnonzero(keep)) if len(self.when.times) else self.when
        return _Chunk(self.slots[keep], self.values.filter(pa.array(keep)), when)


_NO_TIMES = RowTimes(NO_PLACES, NO_PLACES, NO_PLACES)


class ColumnBuffer:
    """The kept values of one column, or of several columns combined."""

    def __init__(self, kept: KeptColumns) -> None:
        self.name = kept.name
        self.needs_times = kept.needs_times
        self._kept = kept
        self._chunks: list[_Chunk] = []
        self._n_rows = 0
        self._n_reduced = 0
        self._is_sorted = False  # there is one chunk, in the order of slots

    @property
    def n_bytes(self) -> int:
        """Bytes of the values."""
        return sum(chunk.values.nbytes + chunk.slots.nbytes for chunk in self._chunks)

    def add_rows(self, batch: pa.RecordBatch, slots: Slots, when: RowTimes) -> None:
        """Copy the values of a batch that are not null and have a slot."""
        columns = [batch.column(name) for name in self._kept.inputs]
        is_kept = slots != 0
        for column in columns:
            if column.null_count:
                is_kept &= column.is_valid().to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(is_kept)
        values = self._kept.values_of([take(column, pa.array(rows)) for column in columns])
        self._add(values, slots, when, rows)

    def add(self, values: pa.Array, slots: Slots, when: RowTimes) -> None:
        """Copy the values that have a slot; they have the buffer's type."""
        rows = np.flatnonzero(slots != 0)
        self._add(values.take(pa.array(rows)), slots, when, rows)

    def _add(self, values: pa.Array, slots: Slots, when: RowTimes, rows: Ints) -> None:
        own = _with_places(when.take(rows)) if self.needs_times else _NO_TIMES
        self._chunks.append(_Chunk(slots[rows], values, own))
        self._is_sorted = False
        self._n_rows += len(rows)
        if self._kept.distinct_suffices and self._n_rows > 2 * self._n_reduced + _LEAST_REDUCTION:
            self._reduce()

    def move(self, new_of_old: Slots) -> None:
        """Move the values to the new slots of their entries; 0: the entry was removed."""
        moved = [replace(chunk, slots=new_of_old[chunk.slots]) for chunk in self._chunks]
        self._chunks = [self._without_dead(chunk) for chunk in moved if chunk.slots.any()]
        self._is_sorted = False
        self._n_rows = sum(len(chunk.slots) for chunk in self._chunks)

    def merge(self, state: Arrays, slots: Slots) -> None:
        """Add the values of a snapshot; ``slots`` are those of its entries here, 0 for none."""
        chunk = self._stored(state, slots)
        own = chunk.filter(chunk.slots != 0)
        self._chunks.append(own)
        self._is_sorted = False
        self._n_rows += len(own.slots)

    def select(self, ordinals: Ints, n_groups: int) -> GroupedValues:
        """Return the values of entries; ``ordinals[slot]`` is the group, -1 for none."""
        parts = []
        for chunk in self._chunks:
            keep = ordinals[chunk.slots] >= 0
            if keep.any():
                parts.append(chunk if keep.all() else chunk.filter(keep))
        chunk = self._joined(parts)
        groups = ordinals[chunk.slots]
        return GroupedValues(groups, chunk.values, chunk.when, n_groups)

    def select_of(self, slots: Slots, groups: Ints, n_groups: int) -> GroupedValues:
        """Return the values of entries; ``groups[i]`` is the group of ``slots[i]``."""
        chunk = self._sorted()
        firsts = np.searchsorted(chunk.slots, slots, "left")
        counts = np.searchsorted(chunk.slots, slots, "right") - firsts
        skipped = np.repeat(firsts - np.cumsum(counts) + counts, counts)
        found = chunk.take(skipped + np.arange(len(skipped)))
        return GroupedValues(np.repeat(groups, counts), found.values, found.when, n_groups)

    def _sorted(self) -> _Chunk:
        """Return the values sorted by slot; those of one slot keep their order of arrival."""
        if not self._is_sorted:
            chunk = self._joined(self._chunks)
            self._chunks = [chunk.take(np.argsort(chunk.slots, kind="stable"))]
            self._is_sorted = True
        return self._chunks[0]

    def snapshot(self, index_of_slot: Ints) -> dict[str, npt.NDArray[Any]]:
        """Return the values and the indices of their entries in the store's snapshot."""
        alive = [chunk for chunk in self._chunks if len(chunk.slots)]
        chunk = self._joined(alive)
        chunk = chunk.filter(index_of_slot[chunk.slots] >= 0)
        return {
            f"values:{self.name}:entries": index_of_slot[chunk.slots],
            f"values:{self.name}:times": chunk.when.times,
            f"values:{self.name}:orders": chunk.when.orders,
            f"values:{self.name}:places": chunk.when.places,
            f"values:{self.name}:values": array_bytes(chunk.values),
        }

    def restore(self, state: Arrays, slots: Slots) -> None:
        """Restore a snapshot; ``slots`` are those of the store's entries, in snapshot order."""
        chunk = self._stored(state, slots)
        self._chunks = [chunk]
        self._is_sorted = False
        self._n_rows = self._n_reduced = len(chunk.slots)

    def _stored(self, state: Arrays, slots: Slots) -> _Chunk:
        times, orders, places = (
            np.array(state[f"values:{self.name}:{of}"]) for of in ("times", "orders", "places")
        )
        return _Chunk(
            slots[state[f"values:{self.name}:entries"]],
            array_of_bytes(state[f"values:{self.name}:values"]),
            RowTimes(times, orders, places),
        )

    def _reduce(self) -> None:
        """Remove duplicate values of each entry."""
        chunk = self._joined(self._chunks)
        table = pa.table({"slot": chunk.slots, "value": chunk.values})
        distinct = table.group_by(["slot", "value"], use_threads=False).aggregate([])
        slots = distinct.column("slot").to_numpy()
        values = distinct.column("value").combine_chunks()
        self._chunks = [_Chunk(np.array(slots), values, _NO_TIMES)]
        self._is_sorted = False
        self._n_rows = self._n_reduced = len(slots)

    def _joined(self, chunks: Sequence[_Chunk]) -> _Chunk:
        if len(chunks) == 1:
            return chunks[0]
        if not chunks:
            none = np.zeros(0, dtype=np.uint32)
            return _Chunk(none, pa.nulls(0, self._kept.type), _NO_TIMES)
        return _Chunk(
            np.concatenate([chunk.slots for chunk in chunks]),
            pa.concat_arrays([chunk.values for chunk in chunks]),
            RowTimes(*map(np.concatenate, zip(*(chunk.when for chunk in chunks), strict=True))),
        )

    @staticmethod
    def _without_dead(chunk: _Chunk) -> _Chunk:
        n_alive = np.count_nonzero(chunk.slots)
        return chunk.filter(chunk.slots != 0) if 2 * n_alive < len(chunk.slots) else chunk


class HolisticRows(StateTable):
    """Table of the kept values of all columns that holistic aggregates read, always written whole.

    Parameters
    ----------
    spec : WindowAggregateSpec
    store : SliceStore
    slices : SliceTable
        The table of the store; it is restored first.
    prefix : str
        Of the names of its arrays.
    """

    def __init__(
        self, spec: WindowAggregateSpec, store: SliceStore, slices: SliceTable, prefix: str = ""
    ) -> None:
        self.name = f"{prefix}values"
        self._prefix = prefix
        self._slices = slices
        slices.slots_of_parts = {}
        self._store = store
        self.buffers = {kept.inputs: ColumnBuffer(kept) for kept in spec.kept_columns}
        self._sources: tuple[int, Ints] | None = None
        store.on_move(self._move)

    @property
    def n_bytes(self) -> int:
        """Bytes of the values."""
        return sum(buffer.n_bytes for buffer in self.buffers.values())

    def add(self, batch: pa.RecordBatch, slots: Slots, when: RowTimes) -> None:
        """Keep the values of a batch."""
        for buffer in self.buffers.values():
            buffer.add_rows(batch, slots, when)

    def set_sources(self, region: int, sources: Ints) -> None:
        """Set the regions (int64[n]) that a region was merged from: the values are in those."""
        self._sources = (region, sources)

    def select(self, slots: Slots) -> dict[tuple[str, ...], GroupedValues]:
        """Return the values of entries, grouped by the index of their slot in ``slots``.

        ``slots`` are in ascending order. After `set_sources` they are of the merged region.
        """
        if self._sources is not None:
            of, groups = self._source_entries(slots)
            return {n: b.select_of(of, groups, len(slots)) for n, b in self.buffers.items()}
        ordinals = np.full(self._store.slots_end, -1, dtype=np.int64)
        ordinals[slots] = np.arange(len(slots))
        return {n: buffer.select(ordinals, len(slots)) for n, buffer in self.buffers.items()}

    def _source_entries(self, slots: Slots) -> tuple[Slots, Ints]:
        """Return the source slots with a key of some merged entries, and the entry of each."""
        assert self._sources is not None
        region, sources = self._sources
        of, of_null = self._store.slots_of(sources)
        merged, null = self._store.slots_of(np.array([region], dtype=np.int64))
        plain = merged if null is None else merged[~null]
        by_key = plain[np.argsort(self._store.keys_of(plain))]
        at = np.searchsorted(self._store.keys_of(by_key), self._store.keys_of(of))
        target = by_key.take(at, mode="clip") if len(by_key) else np.zeros_like(of)
        if null is not None and of_null is not None:
            target[of_null] = merged[null][0]
        groups = np.searchsorted(slots, target)
        is_found = slots.take(groups, mode="clip") == target
        return of[is_found], groups[is_found]

    def forget(self, regions: Ints) -> None:
        """Drop the values of regions before they are closed."""
        slots, _ = self._store.slots_of(regions)
        self.reassign(slots, np.zeros_like(slots))

    def reassign(self, slots: Slots, targets: Slots) -> None:
        """Give the values of entries to other entries, or drop them where the target is 0."""
        new_of_old = np.arange(self._store.slots_end, dtype=np.uint32)
        new_of_old[slots] = targets
        for buffer in self.buffers.values():
            buffer.move(new_of_old)

    def head(self) -> dict[str, npt.NDArray[Any]]:
        """Return all values, with the index of their entry among those of all slices."""
        slots = self._store.snapshot_slots()
        indices = np.full(self._store.slots_end, -1, dtype=np.int64)
        indices[slots] = np.arange(len(slots))
        state: dict[str, npt.NDArray[Any]] = {}
        for buffer in self.buffers.values():
            state.update(buffer.snapshot(indices))
        return {f"{self._prefix}{name}": array for name, array in state.items()}

    def restore(self, arrays: Arrays) -> None:
        """Restore all values; the entries of the store are restored before."""
        slots = self._store.snapshot_slots()
        for buffer in self.buffers.values():
            buffer.restore(self._own(arrays), slots)

    def merge(self, parts: Sequence[Part], owned: Ownership) -> None:
        """Add the values of the entries that the store has merged."""
        for part, slots in (self._slices.slots_of_parts or {}).items():
            for buffer in self.buffers.values():
                buffer.merge(self._own(parts[part].arrays), slots)
        self._slices.slots_of_parts = {}

    def _own(self, arrays: Arrays) -> Arrays:
        return {
            name.removeprefix(self._prefix): array
            for name, array in arrays.items()
            if name.startswith(f"{self._prefix}values:")
        }

    def _move(self, old: Slots, slots_end: int) -> None:
        new_of_old = np.zeros(slots_end, dtype=np.uint32)
        new_of_old[old] = np.arange(1, len(old) + 1)
        for buffer in self.buffers.values():
            buffer.move(new_of_old)


def _with_places(when: RowTimes) -> RowTimes:
    return when if len(when.places) else when._replace(places=np.zeros_like(when.orders))


def array_bytes(values: pa.Array) -> npt.NDArray[np.uint8]:
    """Serialize an array as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    batch = pa.RecordBatch.from_arrays([values], names=["values"])
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return np.frombuffer(sink.getvalue(), dtype=np.uint8)


def array_of_bytes(stored: npt.NDArray[np.uint8]) -> pa.Array:
    """Deserialize the result of `array_bytes`."""
    with pa.ipc.open_stream(pa.py_buffer(np.ascontiguousarray(stored).tobytes())) as reader:
        return reader.read_all().column(0).combine_chunks()
