"""Adds rows and partial results to slices, and returns slices as columns.

All stages of windowed aggregates share this code. It is independent of watermarks and
windows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hpcstream.aggregates.accumulator import (
    Accumulator,
    RequiredInput,
    input_rows,
    merge_at,
    word_array,
    words_of_array,
)
from hpcstream.columns.arrays import fixed_values, words_to_array
from hpcstream.columns.event_time import TIME_COLUMN
from hpcstream.columns.row_order import RowTimes
from hpcstream.columns.selection import gather, take
from hpcstream.operators.key_codec import key_codec
from hpcstream.operators.windows.kept_values import HolisticRows
from hpcstream.operators.windows.spec import (
    ROWS_COLUMN,
    SLICE_COLUMN,
    WindowAggregateSpec,
)
from hpcstream.state.arrays import Allocator, AnySlots, Bools, Ints, Slots
from hpcstream.state.slices.store import SliceStore
from hpcstream.state.slices.table import OwnerOfSlices, SliceTable
from hpcstream.state.table import StateTable
from hpcstream.state.word_arrays import entries_of_size

MAX_BATCH_ROWS = 65_536
"""Most rows of an emitted batch; fewer if entries have wide words."""


class WindowState:
    """The open slices of one windowed aggregate.

    Parameters
    ----------
    spec : WindowAggregateSpec
    allocator : Allocator
    labels : bool
        Slices are labels given to `add_words` rather than spans of time; `add_rows` is not used.
    prefix : str
        Of the names of its arrays, if an operator has several states.
    epoch, owner_of_slices : callable, optional
        As in `SliceTable`.

    Attributes
    ----------
    batch_rows : int
        Most rows of a batch of results or partial results.
    tables : list of StateTable
    """

    def __init__(
        self,
        spec: WindowAggregateSpec,
        allocator: Allocator,
        *,
        labels: bool = False,
        prefix: str = "",
        epoch: Callable[[], int] = lambda: 0,
        owner_of_slices: OwnerOfSlices | None = None,
    ) -> None:
        self.spec = spec
        size, offset, margin = 1, 0, 0
        if not labels:
            grid, layout = spec.slicing.grid, spec.slicing.layout
            size, offset = grid.store_size, grid.store_offset
            margin = layout.most_slices * size + spec.allowed_lateness
        self.store = SliceStore(size, offset, spec.words, allocator, margin=margin)
        self.codec = key_codec(spec.keys, spec.input_schema)
        slices = SliceTable(
            self.store, self.codec, self.merge_words,
            epoch=epoch, owner_of_slices=owner_of_slices, prefix=prefix,
        )  # fmt: skip
        self.tables: list[StateTable] = [*self.codec.tables(), slices]
        self.holistic: HolisticRows | None = None
        if spec.holistic_aggregates:
            self.holistic = HolisticRows(spec, self.store, slices, prefix)
            self.tables.append(self.holistic)
        self._time = spec.input_schema.get_field_index(TIME_COLUMN)
        self.batch_rows = entries_of_size(spec.words, MAX_BATCH_ROWS)
        self._words_of = list(_words_of_each(spec))
        self._updates = _grouped_by_columns(spec)

    def times(self, batch: pa.RecordBatch) -> Ints:
        """Return the event times of rows as the store divides them into slices."""
        return self.spec.slicing.grid.store_times(fixed_values(batch.column(self._time)))

    def add_rows(self, batch: pa.RecordBatch, first_open: int) -> Slots:
        """Aggregate rows; return their slots (scratch), 0 for rows before ``first_open``."""
        times = self.times(batch)
        words, valid = self.codec.encode(batch)
        slots = self.store.resolve(times, words, valid, first_open=first_open)
        if self._updates or self.holistic is not None:
            when = RowTimes.of(batch)
            self._update(batch, slots, when)
            if self.holistic is not None:
                self.holistic.add(batch, slots, when)
        return slots

    def add_partials(self, batch: pa.RecordBatch, first_open: int) -> Slots:
        """Merge partial results; return their slots, as `add_rows` does."""
        numbers = fixed_values(batch.column(SLICE_COLUMN))
        times = numbers * self.store.slice_size + self.store.slice_offset
        times.setflags(write=False)
        words, valid = self.codec.encode(batch)
        rows = fixed_values(batch.column(ROWS_COLUMN))
        slots = self.store.resolve(times, words, valid, first_open=first_open, counts=rows)
        columns = batch.columns[-len(self.spec.words) :] if self.spec.words else []
        parts = [
            words_of_array(column, word.dtype, word.width)
            for column, word in zip(columns, self.spec.words, strict=True)
        ]
        self.merge_words(slots, parts)
        return slots

    def add_words(self, labels: Ints, rows: Ints, parts: list[npt.NDArray[Any]]) -> Slots:
        """Merge partial results without a key into labelled slices; return their slots."""
        no_keys = np.zeros(len(labels), dtype=np.int64)
        no_keys.setflags(write=False)
        slots = self.store.resolve(labels, no_keys, counts=rows)
        self.merge_words(slots, parts)
        return slots

    def merge_words(self, slots: AnySlots, parts: list[npt.NDArray[Any]]) -> None:
        """Merge words, given in the order of the specification, into entries."""
        words = self.store.words
        for accumulator, at, end in self._words_of:
            merge_at(accumulator, words[at:end], slots, parts[at:end])

    def entries(self, slots: Slots) -> dict[str, npt.NDArray[Any]]:
        """Return the words of entries by name, and their ``"rows"``."""
        store = self.store
        names = (word.name for word in self.spec.words)
        arrays = {**dict(zip(names, store.words, strict=True)), "rows": store.rows}
        return {name: gather(array, slots) for name, array in arrays.items()}

    def key_columns(self, slots: Slots, is_null: Bools | None) -> list[pa.Array]:
        """Return the key columns of entries."""
        return self.codec.decode(self.store.keys_of(slots), is_null)

    def results(self, slots: Slots) -> list[pa.Array]:
        """Return the result columns of entries of complete windows."""
        spec = self.spec
        entries = self.entries(slots)
        if self.holistic is None:
            return [each.finish(entries) for each in spec.bound_aggregates]
        once, again = np.unique(slots, return_inverse=True)  # windows may share entries
        values = self.holistic.select(once)
        return [
            take(each.finish_values(values[each.named.inputs]), pa.array(again))
            if each.keeps_values
            else each.finish(entries)
            for each in spec.bound_aggregates
        ]

    def result_batch(
        self, starts: Ints, ends: Ints, slots: Slots, is_null: Bools | None
    ) -> pa.RecordBatch:
        """Return result rows of entries, each of the window given with it."""
        spec = self.spec
        keys = self.key_columns(slots, is_null)
        columns = [
            *keys,
            words_to_array(starts, None, spec.time_type),
            words_to_array(ends, None, spec.time_type),
            *self.results(slots),
            pa.array(ends - 1),
            *spec.order_columns(keys, len(slots)),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=spec.output_schema)

    def partials(self, numbers: Ints, regions: Ints) -> Iterator[pa.RecordBatch]:
        """Yield the partial results of slices, in batches of bounded size."""
        for part_numbers, slots, is_null in self.entry_groups(numbers, regions):
            entries = self.entries(slots)
            columns = [
                *self.key_columns(slots, is_null),
                pa.array(part_numbers),
                pa.array(entries["rows"]),
                *(word_array(entries[word.name]) for word in self.spec.words),
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=self.spec.partial_schema)

    def entry_groups(
        self, labels: Ints, regions: Ints
    ) -> Iterator[tuple[Ints, Slots, Bools | None]]:
        """Yield the entries of regions, in order, in groups of at most `batch_rows`.

        Yields
        ------
        labels : int64[n]
            The label of the region of each entry.
        slots : uint32[n]
        is_null : bool[n] or None
        """
        ends = np.cumsum(self.store.counts(regions))
        first = 0
        while first < len(regions):
            before = int(ends[first - 1]) if first else 0
            last = max(first + 1, int(np.searchsorted(ends, before + self.batch_rows, "right")))
            counts = self.store.counts(regions[first:last])
            slots, is_null = self.store.slots_of(regions[first:last])
            of_entries = np.repeat(labels[first:last], counts)
            for at in range(0, len(slots), self.batch_rows):
                part = slice(at, at + self.batch_rows)
                yield of_entries[part], slots[part], None if is_null is None else is_null[part]
            first = last

    def close(self, regions: Ints) -> None:
        """Close slices and free their memory."""
        if self.holistic is not None:
            self.holistic.forget(regions)
        self.store.close(regions)
        self.codec.forget_dead(self.store)

    def _update(self, batch: pa.RecordBatch, slots: Slots, when: RowTimes) -> None:
        state = self.store.words
        for group in self._updates:
            arrays = tuple(map(batch.column, group.columns))
            rows = input_rows(arrays, slots, when, group.required)
            for accumulator, at, end in group.accumulators:
                accumulator.update(state[at:end], rows)


class _Updates(NamedTuple):
    """The accumulators that read the same columns, and the index range of the words of each."""

    columns: tuple[int, ...]
    required: RequiredInput
    accumulators: list[tuple[Accumulator, int, int]]


def _words_of_each(spec: WindowAggregateSpec) -> Iterator[tuple[Accumulator, int, int]]:
    """Yield each accumulator and the index range of its words."""
    at = 0
    for accumulator in spec.accumulators:
        end = at + len(accumulator.words)
        yield accumulator, at, end
        at = end


def _grouped_by_columns(spec: WindowAggregateSpec) -> list[_Updates]:
    groups: dict[tuple[str, ...], list[tuple[Accumulator, int, int]]] = {}
    for accumulator, at, end in _words_of_each(spec):
        groups.setdefault(accumulator.columns, []).append((accumulator, at, end))
    return [
        _Updates(
            tuple(map(spec.input_schema.get_field_index, columns)),
            RequiredInput.of(accumulator for accumulator, _, _ in group),
            group,
        )
        for columns, group in groups.items()
    ]
