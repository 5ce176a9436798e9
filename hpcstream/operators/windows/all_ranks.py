"""Windows over all rows of all ranks, without a key and without a central rank.

::

    rank 0   rows ──> WindowAllLocal ──┐ one partial row                 ┌──> WindowAllFinal
    rank 1   rows ──> WindowAllLocal ──┼ per closed window ──> reduced or ┼──> WindowAllFinal
    rank 2   rows ──> WindowAllLocal ──┘ and rank              gathered   └──> WindowAllFinal

The local stages see one global watermark, so in each round they close the same
windows. Where `WindowAggregateSpec.reductions` knows an elementwise reduction for every column,
the exchange may reduce the rows of a window; else it brings them to one rank in
rank order, and `WindowAllFinal` merges them in the order given.

A partial row of a window that has fired before holds only the rows that came
since: the final stage keeps a window as long as late rows may reach it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from hpcstream.aggregates.accumulator import word_array, words_of_array
from hpcstream.aggregates.kept_columns import WINDOW_COLUMN, list_columns, values_of_lists
from hpcstream.columns.arrays import fixed_values
from hpcstream.columns.ownership import Ownership, owners
from hpcstream.operators.base import Emitted, Turn, with_pauses
from hpcstream.operators.windows.kept_values import HolisticRows
from hpcstream.operators.windows.merge import Entries, WindowMerger
from hpcstream.operators.windows.slices import WindowState
from hpcstream.operators.windows.spec import ROWS_COLUMN, WindowAggregateSpec
from hpcstream.operators.windows.stage import NOTHING, FiringStage, WindowStage
from hpcstream.state.arrays import Allocator, Bools, HeapAllocator, Ints, Slots
from hpcstream.state.scalars import Field, Scalars, Values, union
from hpcstream.state.table import Dealt, OfFinalStage

__all__ = ["WINDOW_COLUMN", "WindowAllFinal", "WindowAllLocal"]


class WindowAllLocal(FiringStage):
    """The local stage of windows over all rows.

    Its watermark must be the global one: it decides which rows are late, and all ranks must
    close the same windows. The main output has batches of ``spec.window_all_schema``.
    """

    def __init__(self, spec: WindowAggregateSpec, allocator: Allocator) -> None:
        super().__init__(spec, allocator)
        # Rows of fired windows that came after the last firing.
        self._corrections = WindowState(spec, allocator, prefix="corrections/")
        self._corrector = WindowMerger(self._corrections)
        slices = [Dealt(table) for table in [*self._state.tables, *self._corrections.tables]]
        self._tables = [*slices, self._progress_table("local")]

    def describe(self) -> str:
        """Return what it does in one line."""
        return f"local window aggregate: {self._spec.describe()}"

    def process_batch(self, batch: pa.RecordBatch, input_index: int = 0) -> Iterable[Emitted]:
        """Add rows to their slices."""
        if batch.num_rows == 0:
            return NOTHING
        progress, store = self._progress, self._state.store
        slots = self._state.add_rows(batch, progress.first_open)
        if store.least_time < progress.fired_time:
            rows = progress.rows_behind(self._state.times(batch), slots)
            self._merger.repair(progress.look_back(self._state.times(batch)[rows]))
            self._correct(batch, rows)
        return self._late(batch, slots)

    def _correct(self, batch: pa.RecordBatch, rows: Ints) -> None:
        """Add the rows of windows that have fired to the corrections as well."""
        if len(rows) and self._progress.again:
            self._corrections.add_rows(batch.take(pa.array(rows)), self._progress.first_open)

    def _fire(self, watermark: int) -> Iterator[Emitted]:
        progress = self._progress
        stop, first_open = progress.due(watermark)
        fired, again = progress.next_window, sorted(progress.again)
        for entries in self._corrector.windows(fired, fired, again):
            yield self._partial_rows(self._corrections, entries)
        self._corrector.close_below(2**63 - 1)
        for entries in self._merger.windows(fired, stop, ()):
            yield self._partial_rows(self._state, entries)
        self._merger.close_below(first_open)
        progress.advance(watermark)

    def _partial_rows(self, state: WindowState, found: Entries | Turn) -> Emitted:
        if isinstance(found, Turn):
            return found
        windows, slots, _ = found
        entries = state.entries(slots)
        columns = [pa.array(windows), pa.array(entries["rows"])]
        for accumulator in self._spec.accumulators:
            words = [entries[word.name] for word in accumulator.words]
            columns += [word_array(sent) for sent in accumulator.transport.pack(words)]
        if state.holistic is not None:
            once, again = np.unique(slots, return_inverse=True)  # windows may share what they hold
            kept = state.holistic.select(once)
            for inputs, buffer in state.holistic.buffers.items():
                lists = list_columns(kept[inputs], needs_times=buffer.needs_times)
                columns += [column.take(pa.array(again)) for column in lists]
        return pa.RecordBatch.from_arrays(columns, schema=self._spec.window_all_schema)


class WindowAllFinal(WindowStage):
    """The final stage of windows over all rows: merges the partial rows of all ranks.

    The partial rows of one window arrive in one round and are merged in the order in which
    they arrive.
    """

    def __init__(self, spec: WindowAggregateSpec, allocator: Allocator | None = None) -> None:
        # Each slice is a window: window number w serves as its time.
        state = WindowState(
            spec, allocator or HeapAllocator(), labels=True, owner_of_slices=self._owns
        )
        super().__init__(spec, state)
        self._is_reduced = spec.reductions is not None
        self._touched: set[int] = set()
        touched = Field("touched", self._owned_windows)
        slices = [OfFinalStage(table) for table in self._state.tables]
        self._tables = [
            *slices,
            Scalars([touched], lambda: {"touched": sorted(self._touched)}, self._restore_touched),
        ]

    def describe(self) -> str:
        """Return what it does in one line."""
        return f"final window aggregate: {self._spec.describe()}"

    def process_batch(self, batch: pa.RecordBatch, input_index: int = 0) -> Iterable[Emitted]:
        """Merge partial rows."""
        if batch.num_rows == 0:
            return NOTHING
        windows = fixed_values(batch.column(WINDOW_COLUMN))
        rows = fixed_values(batch.column(ROWS_COLUMN))
        parts = []
        for accumulator in self._spec.accumulators:
            transport = accumulator.transport
            sent = [
                words_of_array(batch.column(column.name), column.dtype, column.width)
                for column in transport.columns
            ]
            parts += transport.unpack(sent)
        slots = self._state.add_words(windows, rows, parts)
        if self._state.holistic is not None:
            self._keep_values(self._state.holistic, batch, slots)
        self._touched.update(windows.tolist())
        return NOTHING

    def process_watermark(self, watermark: int) -> Iterable[Emitted]:
        """Yield a row for each window that got a partial row since the last watermark."""
        due = self._touched or self.n_entries
        return with_pauses(self._emit(watermark)) if due else NOTHING

    def _owns(self, windows: Ints, owned: Ownership) -> Bools:
        """Return which windows an instance receives partial rows of."""
        if self._is_reduced:
            instances = (windows % owned.n_instances).astype(np.uint16)
        else:
            rows = pa.record_batch({WINDOW_COLUMN: windows})
            instances = owners(rows, [WINDOW_COLUMN], owned.n_instances)
        is_own: Bools = instances == owned.instance
        return is_own

    def _owned_windows(self, windows: Sequence[Ints], owned: Ownership) -> Ints:
        found = union(windows, owned)
        return found[self._owns(found, owned)]

    def _restore_touched(self, values: Values) -> None:
        self._touched = set(values["touched"].tolist()) if values else set()

    def _keep_values(self, holistic: HolisticRows, batch: pa.RecordBatch, slots: Slots) -> None:
        for buffer in holistic.buffers.values():
            values, lengths, when = values_of_lists(batch, buffer.name, buffer.needs_times)
            buffer.add(values, np.repeat(slots, lengths), when)

    def _emit(self, watermark: int) -> Iterator[pa.RecordBatch]:
        spec, slicing, store = self._spec, self._spec.slicing, self._state.store
        numbers, regions = store.slices_below(2**63 - 1)
        due = np.isin(numbers, sorted(self._touched))
        for windows, slots, _ in self._state.entry_groups(numbers[due], regions[due]):
            starts, ends = slicing.bounds(windows)
            yield self._state.result_batch(starts, ends, slots, None)
        self._touched.clear()
        closed = regions[numbers < slicing.next_window(watermark - spec.allowed_lateness)]
        if len(closed):
            self._state.close(closed)
