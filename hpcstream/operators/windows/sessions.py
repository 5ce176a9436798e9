"""Aggregates per key and session: the single stage, or the final one.

A session of a key is a run of rows, each less than a *gap* after the one before. Slices are as wide
as the gap, so all rows of a key in one slice are of one session, and rows of neighbouring slices
are of one session if the last of the earlier is less than a gap before the first of the later.
An entry therefore keeps, beside its accumulators, its first and its last event time::

    slices          |------ 7 ------|------ 8 ------|------ 9 ------|
    rows of a key        a   b   c       d                    e  f
    entries          [a, c]          [d, d]          [e, f]
    sessions         [a ........... d + gap)         [e ........ f + gap)

When the watermark reaches the last row of an entry plus the gap, no row can follow that row any
more. If the next slice has a row of the key within the gap, the entry is merged into that of the
next slice; else the session has ended, and its result is emitted. Either way the entry is done
with, so each is touched once, a long session costs one entry, and only entries of the last slice
that has ended wait, in the order of their last rows.

A row is late if a session of it alone would have ended: at ``time + gap <= watermark``. A row
behind the watermark that is not late joins its session, or begins one, and never changes a result.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from hpcstream.columns.event_time import MIN_TIME, TIME_COLUMN
from hpcstream.columns.selection import gather
from hpcstream.kernels import key_table, sessions
from hpcstream.operators.base import Emitted, SideOutput, with_pauses
from hpcstream.operators.windows.slices import WindowState
from hpcstream.operators.windows.spec import WindowAggregateSpec
from hpcstream.operators.windows.stage import NOTHING, WindowStage, late_partials
from hpcstream.state.arrays import NO_NULLS, Allocator, Ints, Slots
from hpcstream.state.scalars import Common, Field, Scalars, Values, total


class _Waiting(NamedTuple):
    """Entries of a slice that has ended, in the order of their last rows.

    Attributes
    ----------
    number : int
        The slice.
    slots : uint32[n]
    lasts : int64[n]
        The event time of the last row of each.
    """

    number: int
    slots: Slots
    lasts: Ints


class SessionAggregate(WindowStage):
    """Aggregates of the sessions of this rank's keys.

    Parameters
    ----------
    spec : WindowAggregateSpec
        Its windows are sessions.
    allocator : Allocator
        Allocates the arenas of the state.

    Attributes
    ----------
    late_rows : int
        Rows that arrived after a session of them alone would have ended.
    """

    def __init__(self, spec: WindowAggregateSpec, allocator: Allocator) -> None:
        super().__init__(spec, WindowState(spec, allocator))
        self.late_rows = 0
        self._watermark = MIN_TIME
        self._gap = self._state.store.slice_size
        self._waiting: _Waiting | None = None  # None: not known, the entries of the slice say it
        names = [word.name for word in spec.words]
        self._first = names.index(f"min({TIME_COLUMN})")
        self._last = names.index(f"max({TIME_COLUMN})")
        self._state.store.on_move(self._forget_waiting)
        fields = [Field("watermark", Common(self.describe())), Field("late_rows", total)]
        scalars = Scalars(fields, self._counts, self._restore_counts)
        self._tables = [*self._state.tables, scalars]

    def describe(self) -> str:
        """Return what it does in one line."""
        return f"session aggregate: {self._spec.describe()}"

    # -- rows --------------------------------------------------------------------------

    def process_batch(self, batch: pa.RecordBatch, input_index: int = 0) -> Iterable[Emitted]:
        """Add rows (input 0) or partial results (input 1) to their slices."""
        if batch.num_rows == 0:
            return NOTHING
        store = self._state.store
        ended = self._ended_slices(self._watermark)
        if input_index == 1:
            self._state.add_partials(batch, MIN_TIME)
            if self._number_of(store.least_time) < ended:
                raise late_partials(self.describe(), self._watermark)
            return NOTHING
        on_time, late = self._divide(batch)
        if on_time.num_rows:
            self._state.add_rows(on_time, MIN_TIME)
            if self._number_of(store.least_time) < ended:
                self._waiting = None
        return late

    def _divide(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Iterable[Emitted]]:
        """Return the rows that are not late, and what is emitted of those that are."""
        times = self._state.times(batch)
        earliest = self._watermark - self._gap + 1
        if int(times.min()) >= earliest:
            return batch, NOTHING
        is_late = times < earliest
        self.late_rows += int(np.count_nonzero(is_late))
        on_time = batch.filter(pa.array(~is_late))
        if not self._spec.late_output:
            return on_time, NOTHING
        return on_time, (SideOutput("late", batch.filter(pa.array(is_late))),)

    def _number_of(self, time: int) -> int:
        return self._spec.slicing.grid.number_at(time)

    def _ended_slices(self, watermark: int) -> int:
        """Return the first slice that has not ended."""
        return MIN_TIME if watermark == MIN_TIME else self._number_of(watermark)

    # -- time --------------------------------------------------------------------------

    def process_watermark(self, watermark: int) -> Iterable[Emitted]:
        """Yield the sessions that end by ``watermark``, in the order of slices and last rows."""
        if watermark <= self._watermark:
            return NOTHING
        self._watermark = watermark
        stop = self._number_of(watermark)
        if self._state.store.least_slice >= stop:
            return NOTHING
        return with_pauses(self._fire(stop, watermark - self._gap))

    def _fire(self, stop: int, limit: int) -> Iterator[Emitted]:
        """Yield the sessions whose last row is at ``limit`` at most; ``stop`` has not ended yet."""
        state = self._state
        first_open = self._number_of(limit + 1)
        numbers, regions = state.store.slices_below(stop)
        for number, region in zip(numbers.tolist(), regions.tolist(), strict=True):
            is_over = number < first_open
            due = self._entries_of(region) if is_over else self._due(number, region, limit)
            for at in range(0, len(due), state.batch_rows):
                slots = due[at : at + state.batch_rows]
                yield from self._settle(number, region, slots)
                if not is_over:
                    state.store.clear(region, slots)
        over = regions[numbers < first_open]
        if len(over):
            state.close(over)
        state.store.forget_below(first_open)

    def _start_of(self, number: int) -> int:
        return number * self._gap + self._state.store.slice_offset

    def _entries_of(self, region: int) -> Slots:
        """Return the slots of the entries that have not been cleared."""
        store = self._state.store
        slots, _ = store.slots_of(np.array([region], dtype=np.int64))
        used: Slots = slots[gather(store.rows, slots) != 0]
        return used

    def _due(self, number: int, region: int, limit: int) -> Slots:
        """Return the entries of a slice whose last row is at ``limit`` at most, in their order."""
        waiting = self._waiting
        if waiting is None or waiting.number != number:
            slots = self._entries_of(region)
            lasts = gather(self._state.store.words[self._last], slots)
            order = np.argsort(lasts, kind="stable")
            waiting = _Waiting(number, slots[order], lasts[order])
        n_due = int(np.searchsorted(waiting.lasts, limit, "right"))
        self._waiting = _Waiting(number, waiting.slots[n_due:], waiting.lasts[n_due:])
        return waiting.slots[:n_due]

    def _forget_waiting(self, old: Slots, slots_end: int) -> None:
        """Look the entries that wait up again: they have moved."""
        self._waiting = None

    def _settle(self, number: int, region: int, slots: Slots) -> Iterator[pa.RecordBatch]:
        """Merge entries into those of the next slice, or emit them."""
        state, store = self._state, self._state.store
        null_slot = int(store.fields(np.array([region], dtype=np.int64), key_table.NULL_SLOT)[0])
        following = self._find_in_next(number, slots, null_slot)
        sources, ended = np.empty_like(slots), np.empty_like(slots)
        spans = store.words[self._first], store.words[self._last]
        n_joined = sessions.divide(slots, following, spans, self._gap, sources, ended)
        sources, targets = sources[:n_joined], following[:n_joined]
        ended = ended[: len(slots) - n_joined]
        if n_joined:
            state.merge_words(targets, [gather(word, sources) for word in store.words])
            store.rows[targets] += gather(store.rows, sources)
        if len(ended):
            starts, lasts = (gather(words, ended) for words in spans)
            nulls = ended == null_slot if null_slot else None
            yield state.result_batch(starts, lasts + self._gap, ended, nulls)
        if state.holistic is not None:
            state.holistic.reassign(sources, targets)
            state.holistic.reassign(ended, np.zeros_like(ended))

    def _find_in_next(self, number: int, slots: Slots, null_slot: int) -> Slots:
        """Return the entry in the next slice of the key of each entry; 0: there is none."""
        store = self._state.store
        times = np.full(len(slots), self._start_of(number + 1), dtype=np.int64)
        valid = slots != null_slot if null_slot else NO_NULLS
        return store.find(times, store.keys_of(slots), valid)

    # -- state -------------------------------------------------------------------------

    def _counts(self) -> dict[str, object]:
        return {"watermark": self._watermark, "late_rows": self.late_rows}

    def _restore_counts(self, values: Values) -> None:
        if values:
            self._watermark = int(values["watermark"][0])
            self.late_rows = int(values["late_rows"][0])
