"""Aggregates per key and event-time window: the single stage, or the final one.

::

    rows      input 0 ──┐
                        ├─> slices ──(watermark)──> windows ──> one row per key and window
    partials  input 1 ──┘      └──> late rows: counted, and emitted as "late" if asked for

A window ``[start, end)`` fires when the watermark reaches ``end``. A row joins
every window that is still open, and is late only if there is none. With allowed
lateness a fired window stays open; when a row reaches it, it fires again, at the
next watermark, with the whole result.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from hpcstream.event_time import MIN_TIME
from hpcstream.memory.columns import words_to_array
from hpcstream.operators.base import Emitted, SideOutput, Snapshot
from hpcstream.operators.window_merge import WindowMerger
from hpcstream.operators.window_spec import WindowAggregateSpec
from hpcstream.operators.window_state import WindowState
from hpcstream.state.slice_store import Allocator, Bools, Ints, Slots

_NOTHING: tuple[Emitted, ...] = ()


class WindowAggregate:
    """Windowed aggregates of the rows of this rank's keys.

    Parameters
    ----------
    spec : WindowAggregateSpec
    allocator : Allocator
        Gives the arenas of the state.

    Attributes
    ----------
    late_rows : int
        Rows that came after all their windows had closed.
    """

    def __init__(self, spec: WindowAggregateSpec, allocator: Allocator) -> None:
        self.late_rows = 0
        self._spec = spec
        self._slicing = spec.slicing
        self._state = WindowState(spec, allocator)
        self._merger = WindowMerger(self._state)
        self._watermark = MIN_TIME
        self._first_open = MIN_TIME  # rows of lesser slices are late
        self._next_window = MIN_TIME  # lesser windows have fired
        self._fired_time = MIN_TIME  # earlier rows are in a window that has fired
        self._again: set[int] = set()  # windows to fire again
        self._keeps_fired_slices = not (
            spec.slicing.is_tumbling and spec.allowed_lateness == 0
        )

    @property
    def n_entries(self) -> int:
        """Number of open (slice, key) pairs."""
        return self._state.store.n_entries

    def state_bytes(self) -> int:
        """Return the bytes reserved for state."""
        return self._state.n_bytes

    def describe(self) -> str:
        """Return what it does in one line."""
        return f"window aggregate: {self._spec.describe()}"

    def process_batch(self, batch: pa.RecordBatch, input_index: int = 0) -> Iterable[Emitted]:
        """Add rows (input 0) or partial results (input 1) to their slices."""
        if batch.num_rows == 0:
            return _NOTHING
        store = self._state.store
        if input_index == 0:
            slots = self._state.add_rows(batch, self._first_open)
        else:
            slots = self._state.add_partials(batch, self._first_open)
        if store.least_time < self._fired_time and input_index == 0:
            self._note_repairs(slots, self._state.times(batch))
        if store.n_late == 0:
            return _NOTHING
        assert input_index == 0, f"{store.n_late} partial results behind the watermark"
        return self._put_aside(batch, slots)

    def process_watermark(self, watermark: int) -> Iterable[Emitted]:
        """Yield the results of the windows that end by ``watermark``, in window order."""
        if watermark <= self._watermark and not self._again:
            return _NOTHING
        self._watermark = max(watermark, self._watermark)
        next_window, first_open = self._progress()
        stays = next_window == self._next_window and first_open == self._first_open
        n_complete = self._slicing.slices_of(next_window - 1).stop
        if not self._again and (stays or self._state.store.least_slice >= n_complete):
            self._advance(next_window, first_open)
            return _NOTHING
        return self._fire(next_window, first_open)

    def snapshot(self) -> Snapshot:
        """Return open slices, late rows so far, and which windows have fired."""
        progress = [self._watermark, self.late_rows]
        return self._state.snapshot() | {
            "progress": np.array(progress, dtype=np.int64),
            "fire_again": np.array(sorted(self._again), dtype=np.int64),
        }

    def restore(self, snapshot: Snapshot) -> None:
        """Take over the state of a snapshot."""
        self._state.restore(snapshot)
        self._watermark, self.late_rows = (int(value) for value in snapshot["progress"])
        self._again = {int(window) for window in snapshot["fire_again"]}
        if self._watermark != MIN_TIME:
            self._advance(*self._progress())

    def _progress(self) -> tuple[int, int]:
        """Return the first window still to fire and the first slice still open."""
        closed_by = self._watermark - self._spec.allowed_lateness
        first_open = max(self._slicing.first_open_slice(closed_by), MIN_TIME)
        return self._slicing.next_window(self._watermark), first_open

    def _advance(self, next_window: int, first_open: int) -> None:
        self._next_window = next_window
        self._first_open = first_open
        if self._keeps_fired_slices:
            end = self._slicing.window_end(next_window - 1)
            self._fired_time = max(end, MIN_TIME)

    def _note_repairs(self, slots: Slots, times: Ints) -> None:
        """Note which windows and nodes rows of fired slices change."""
        changes = (slots != 0) & (times < self._fired_time)
        numbers = (times[changes] - self._slicing.offset) // self._slicing.slice_size
        touched = np.unique(numbers).tolist()
        self._merger.repair(touched)
        closed_by = self._watermark - self._spec.allowed_lateness
        for number in touched:
            for window in self._slicing.windows_of(number):
                if window < self._next_window and self._slicing.window_end(window) > closed_by:
                    self._again.add(window)

    def _put_aside(self, batch: pa.RecordBatch, slots: Slots) -> Iterable[Emitted]:
        self.late_rows += self._state.store.n_late
        if not self._spec.late_output:
            return _NOTHING
        late = np.flatnonzero(slots == 0)
        return (SideOutput("late", batch.take(pa.array(late))),)

    def _fire(self, next_window: int, first_open: int) -> Iterator[pa.RecordBatch]:
        windows = self._merger.windows(self._next_window, next_window, sorted(self._again))
        for of_entries, slots, is_null in windows:
            yield self._results(of_entries, slots, is_null)
        self._again.clear()
        numbers, regions = self._state.store.slices_below(first_open)
        if len(numbers):
            self._merger.forget(first_open)
            self._state.close(regions)
        self._state.store.forget_below(first_open)
        self._advance(next_window, first_open)

    def _results(self, windows: Ints, slots: Slots, is_null: Bools | None) -> pa.RecordBatch:
        """Return result rows of entries, each of the window given with it."""
        spec = self._spec
        starts = windows * self._slicing.slide + self._slicing.offset
        ends = starts + self._slicing.size
        columns = [
            *self._state.key_columns(slots, is_null),
            words_to_array(starts, None, spec.time_type),
            words_to_array(ends, None, spec.time_type),
            *self._state.results(slots),
            pa.array(ends - 1),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=spec.output_schema)
