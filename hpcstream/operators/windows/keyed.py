"""Aggregates per key and event-time window: the single stage, or the final one.

::

    rows      input 0 ──┐
                        ├─> slices ──(watermark)──> windows ──> one row per key and window
    partials  input 1 ──┘      └──> late rows: counted, and emitted as "late" if requested

A window ``[start, end)`` fires when the watermark reaches ``end``. A row is added to
every window of its time that is still open; it is late only if none is. With allowed
lateness a fired window stays open. If it then receives rows, it fires again at the next
watermark and emits the complete result of each key that received rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

from hpcstream.operators.base import Emitted, Turn
from hpcstream.operators.windows.changed_keys import ChangedKeys, kept_entries
from hpcstream.operators.windows.merge import Entries
from hpcstream.operators.windows.spec import WindowAggregateSpec
from hpcstream.operators.windows.stage import NOTHING, FiringStage, late_partials
from hpcstream.state.arrays import NO_NULLS, Allocator, Bools, Ints, Slots


class WindowAggregate(FiringStage):
    """Windowed aggregates of the keys that this rank owns.

    Parameters
    ----------
    spec : WindowAggregateSpec
    allocator : Allocator
        Allocates the arenas of the state.
    """

    def __init__(self, spec: WindowAggregateSpec, allocator: Allocator) -> None:
        super().__init__(spec, allocator)
        self._changed = ChangedKeys(self._state)
        self._only_changed = spec.assigner.only_changed
        self._tables = [*self._state.tables, self._changed, self._progress_table()]

    def describe(self) -> str:
        """Return what it does in one line."""
        return f"window aggregate: {self._spec.describe()}"

    def process_batch(self, batch: pa.RecordBatch, input_index: int = 0) -> Iterable[Emitted]:
        """Add rows (input 0) or partial results (input 1) to their slices."""
        if batch.num_rows == 0:
            return NOTHING
        store = self._state.store
        progress = self._progress
        if input_index == 0:
            slots = self._state.add_rows(batch, progress.first_open)
        else:
            slots = self._state.add_partials(batch, progress.first_open)
            self._refuse_late_partials()
        if store.least_time < progress.fired_time:
            self._look_back(batch, slots)
        return self._late(batch, slots)

    def _advance(self, watermark: int) -> None:
        super()._advance(watermark)
        if not self._only_changed:  # else the next window of their period wants them
            self._changed.clear()

    def _look_back(self, batch: pa.RecordBatch, slots: Slots) -> None:
        """Mark the windows and keys that rows before the last firing change."""
        times = self._state.times(batch)
        rows = self._progress.rows_behind(times, slots)
        self._merger.repair(self._progress.look_back(times[rows]))
        if self._spec.allowed_lateness or self._only_changed:
            self._changed.note(batch, rows)

    def _refuse_late_partials(self) -> None:
        store, progress = self._state.store, self._progress
        if store.n_late or store.least_time < progress.fired_time:
            raise late_partials(self.describe(), progress.watermark)

    def _fire(self, watermark: int) -> Iterator[Emitted]:
        progress = self._progress
        stop, first_open = progress.due(watermark)
        fired = progress.next_window
        for entries in self._merger.windows(fired, fired, sorted(progress.again)):
            if isinstance(entries, Turn):
                yield entries
            elif (changed := self._changed.of(entries)) is not None:
                yield self._results(*changed)
        for entries in self._merger.windows(fired, stop, ()):
            if isinstance(entries, Turn):
                yield entries
            elif (due := self._due(entries)) is not None:
                yield self._results(*due)
        self._changed.clear()
        self._merger.close_below(first_open)
        progress.advance(watermark)

    def _due(self, entries: Entries) -> Entries | None:
        """Return the entries of windows, which fire for the first time, that have a result.

        Of windows that want changes only, those with rows in the last slice, and in the
        first window to fire those that got rows behind the window that fired before.
        """
        if not self._only_changed:
            return entries
        windows, slots, is_null = entries
        store = self._state.store
        lasts = self._spec.slicing.layout.ranges_of(windows)[1] - 1
        valid = NO_NULLS if is_null is None else ~is_null
        times = lasts * store.slice_size + store.slice_offset
        keep = store.find(times, store.keys_of(slots), valid) != 0
        if windows[0] == self._progress.next_window:
            keep |= (windows == windows[0]) & self._changed.mask(windows, slots, is_null)
        return kept_entries(entries, keep)

    def _results(self, windows: Ints, slots: Slots, is_null: Bools | None) -> pa.RecordBatch:
        """Return result rows of entries, each of the window given with it."""
        starts, ends = self._spec.slicing.bounds(windows)
        return self._state.result_batch(starts, ends, slots, is_null)
