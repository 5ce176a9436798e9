"""Aggregation on the sending side of an exchange.

::

    rows ──> time >= local watermark? ── yes ──> slices ──> partials, main output
                     │ no, or preaggregation does not pay
                     └──> raw rows, side output "rows"

Only the final stage decides which rows are late: rows before the local watermark are sent
raw. The partials of a slice are sent before the watermark that ends it, when there are too
many entries, when preaggregation stops, and when the rank becomes idle. These decisions
depend on counts alone, which are part of the snapshot, so a restored run sends the same
batches.

No partial is before the watermark of the final stage. While the rank is active, that
watermark is at most the local one, or the one that the final stage reached while the rank
was idle (`LocalWindowAggregate.catch_up`); rows before either of them are sent raw.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from hpcstream.columns.event_time import MIN_TIME
from hpcstream.operators.base import Emitted, SideOutput, with_pauses
from hpcstream.operators.windows.slices import WindowState
from hpcstream.operators.windows.spec import WindowAggregateSpec
from hpcstream.operators.windows.stage import NOTHING, WindowStage
from hpcstream.state.arrays import Allocator
from hpcstream.state.scalars import Field, Scalars, Values, greatest, least
from hpcstream.state.table import HandedOn

MAX_ENTRIES = 1 << 20
"""With more entries than this, all slices are sent."""

_LEAST_SAMPLE = 1 << 17  # rows of a sample
_WORST_RATIO = 0.6  # entries per row above which preaggregation does not pay
_PASS_FACTOR = 8  # rows sent raw before the next sample, as a multiple of the last one; doubles
_MOST_PASSED = 64

_ALL = 2**63 - 1  # above the number of every slice

_FIELDS = (
    Field("watermark", least, "local"),
    Field("reached", greatest, "final", source="watermark"),
    *(Field(name) for name in ("rows_in", "entries_out", "rows_to_pass", "pass_factor")),
)


class PreaggregationPolicy:
    """Decides from counts whether aggregation before the exchange pays.

    A sample has at least 131,072 rows. If it needs more than 0.6 entries per row, eight times
    as many rows are sent raw before the next sample; each further failed sample doubles that
    factor, up to 64.
    """

    def __init__(self) -> None:
        self.rows_in = 0  # of the current sample
        self.entries_out = 0
        self.rows_to_pass = 0
        self.pass_factor = _PASS_FACTOR

    @property
    def aggregates(self) -> bool:
        """Whether the next batch should be aggregated."""
        return self.rows_to_pass <= 0

    def note_passed(self, n_rows: int) -> None:
        """Count rows that were sent raw because `aggregates` is false."""
        self.rows_to_pass -= n_rows

    def note_shipped(self, n_entries: int) -> bool:
        """Count entries that were sent; return False if aggregation should stop."""
        self.entries_out += n_entries
        if self.rows_in < _LEAST_SAMPLE:
            return True
        reduces = self.entries_out <= _WORST_RATIO * self.rows_in
        if reduces:
            self.pass_factor = _PASS_FACTOR
        else:
            self.rows_to_pass = self.pass_factor * self.rows_in
            self.pass_factor = min(2 * self.pass_factor, _MOST_PASSED)
        self.rows_in = self.entries_out = 0
        return reduces


class LocalWindowAggregate(WindowStage):
    """Partial aggregates per key and slice, on the rank that has the rows.

    The main output has batches of ``spec.partial_schema``; the side output ``"rows"`` has
    unaggregated rows of ``spec.input_schema``.

    Parameters
    ----------
    spec : WindowAggregateSpec
        Must support partials.
    allocator : Allocator
        Allocates the arenas of the state.
    max_entries : int
        Most open (slice, key) pairs.
    """

    def __init__(
        self, spec: WindowAggregateSpec, allocator: Allocator, *, max_entries: int = MAX_ENTRIES
    ) -> None:
        assert spec.supports_partials, f"no partials for {spec.holistic_aggregates}"
        super().__init__(spec, WindowState(spec, allocator, epoch=lambda: self._all_shipped))
        self._max_entries = max_entries
        self._policy = PreaggregationPolicy()
        self._watermark = MIN_TIME
        self._reached = MIN_TIME  # upper bound of what the final stage reached in idle rounds
        self._first_open = MIN_TIME
        self._all_shipped = 0  # how often; a slice may then be opened again, with as many rows
        slices = [HandedOn(table) for table in self._state.tables]
        self._tables = [*slices, Scalars(_FIELDS, self._counts, self._restore_counts)]

    def describe(self) -> str:
        """Return what it does in one line."""
        return f"local window aggregate: {self._spec.describe()}"

    def process_batch(self, batch: pa.RecordBatch, input_index: int = 0) -> Iterable[Emitted]:
        """Aggregate rows; yield raw rows, and partials if there are too many entries."""
        policy = self._policy
        n_rows = batch.num_rows
        if n_rows == 0:
            return NOTHING
        if not policy.aggregates:
            policy.note_passed(n_rows)
            return (SideOutput("rows", batch),)
        slots = self._state.add_rows(batch, self._first_open)
        store = self._state.store
        policy.rows_in += n_rows - store.n_late
        if store.n_late == 0 and store.n_entries <= self._max_entries:
            return NOTHING
        behind = np.flatnonzero(slots == 0) if store.n_late else None
        return self._emit(batch, behind)

    def process_watermark(self, watermark: int) -> Iterable[Emitted]:
        """Yield the partials of the slices that end by ``watermark``."""
        if watermark <= self._watermark:
            return NOTHING
        self._watermark = watermark
        ended = self._spec.slicing.first_unfinished_slice(watermark)
        self._first_open = max(self._first_open, ended)
        limit = self._ship_limit(ended)
        if self._state.store.least_slice >= limit:
            return NOTHING
        return self._ship_and_review(limit)

    def _ship_limit(self, ended: int) -> int:
        """Return the first slice that need not be shipped once those below ``ended`` have ended."""
        return ended

    def release(self) -> Iterable[Emitted]:
        """Yield the partials of all slices."""
        return self._ship_and_review(_ALL) if self.n_entries else NOTHING

    def catch_up(self, watermark: int) -> None:
        """Send rows raw from now on that are before a watermark of the final stage."""
        self._reached = max(self._reached, watermark)
        self._set_first_open()

    def _counts(self) -> dict[str, int]:
        policy = self._policy
        return {
            "watermark": self._watermark,
            "reached": self._reached,
            "rows_in": policy.rows_in,
            "entries_out": policy.entries_out,
            "rows_to_pass": policy.rows_to_pass,
            "pass_factor": policy.pass_factor,
        }

    def _restore_counts(self, values: Values) -> None:
        found = self._counts() | {name: int(value[0]) for name, value in values.items()}
        policy = self._policy
        self._watermark, self._reached = found["watermark"], found["reached"]
        policy.rows_in, policy.entries_out = found["rows_in"], found["entries_out"]
        policy.rows_to_pass, policy.pass_factor = found["rows_to_pass"], found["pass_factor"]
        self._set_first_open()

    def _set_first_open(self) -> None:
        reached = max(self._watermark, self._reached)
        if reached != MIN_TIME:
            self._first_open = self._spec.slicing.first_unfinished_slice(reached)

    def _emit(self, batch: pa.RecordBatch, behind: np.ndarray | None) -> Iterator[Emitted]:
        if behind is not None:
            yield SideOutput("rows", batch.take(pa.array(behind)))
        if self._state.store.n_entries > self._max_entries:
            yield from self._ship_and_review(_ALL)

    def _ship_and_review(self, limit: int) -> Iterator[Emitted]:
        """Send the slices below ``limit``, or all slices if preaggregation does not pay."""
        n_before = self.n_entries
        yield from self._ship(limit)
        n_shipped = n_before - self.n_entries
        if not self._policy.note_shipped(n_shipped):
            yield from self._ship(_ALL)

    def _ship(self, limit: int) -> Iterator[Emitted]:
        self._all_shipped += limit == _ALL
        numbers, regions = self._state.store.slices_below(limit)
        if len(numbers):
            yield from with_pauses(self._state.partials(numbers, regions))
            self._state.close(regions)
        self._state.store.forget_below(limit)
