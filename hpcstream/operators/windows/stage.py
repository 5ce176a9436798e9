"""Base classes of the stages of windowed aggregates."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from hpcstream.errors import HpcstreamError
from hpcstream.operators.base import Emitted, Operator, SideOutput, with_pauses
from hpcstream.operators.windows.merge import WindowMerger
from hpcstream.operators.windows.progress import WindowProgress, progress_fields
from hpcstream.operators.windows.slices import WindowState
from hpcstream.operators.windows.spec import WindowAggregateSpec
from hpcstream.state.arrays import Allocator, Slots
from hpcstream.state.scalars import Field, Scalars, Stage, Values, total
from hpcstream.state.table import StateTable

NOTHING: tuple[Emitted, ...] = ()


class WindowStage(Operator):
    """A stage of a windowed aggregate: an operator with a `WindowState`.

    A subclass sets ``_tables``.
    """

    _tables: Sequence[StateTable]

    def __init__(self, spec: WindowAggregateSpec, state: WindowState) -> None:
        self._spec = spec
        self._state = state

    @property
    def n_entries(self) -> int:
        """Number of open (slice, key) pairs; without a key, of open slices or windows."""
        return self._state.store.n_entries

    def tables(self) -> Sequence[StateTable]:
        """Return the tables of the open slices, and of the stage's other state."""
        return self._tables


def late_partials(operator: str, watermark: int) -> HpcstreamError:
    """Return the error of partial results behind the watermark, which local stages never send.

    They cannot be aggregated: late rows are emitted as they came.
    """
    return HpcstreamError(
        f"{operator}: partial results arrived after watermark {watermark}; this is a bug of "
        "hpcstream, please report it; local_aggregation=False in job.run() avoids it"
    )


class FiringStage(WindowStage):
    """A stage that decides which rows are late, and fires windows.

    Attributes
    ----------
    late_rows : int
        Rows that arrived after all their windows had closed.
    """

    def __init__(self, spec: WindowAggregateSpec, allocator: Allocator) -> None:
        super().__init__(spec, WindowState(spec, allocator))
        self.late_rows = 0
        self._merger = WindowMerger(self._state)
        self._progress = WindowProgress(spec.slicing, spec.allowed_lateness)

    @abstractmethod
    def describe(self) -> str:
        """Return what it does in one line."""

    @abstractmethod
    def _fire(self, watermark: int) -> Iterator[Emitted]:
        """Yield the results that are due at a watermark, and advance to it."""

    def process_watermark(self, watermark: int) -> Iterable[Emitted]:
        """Yield the results of the windows that end by ``watermark``, in window order."""
        progress = self._progress
        watermark = max(watermark, progress.watermark)
        if progress.is_due(watermark, self._state.store.least_slice):
            return with_pauses(self._fire(watermark))
        if watermark > progress.watermark:
            self._advance(watermark)
        return NOTHING

    def _advance(self, watermark: int) -> None:
        """Advance to a watermark at which nothing is due."""
        self._progress.advance(watermark)

    def _late(self, batch: pa.RecordBatch, slots: Slots) -> Iterable[Emitted]:
        """Count the late rows of a batch, and emit them if the side output has a consumer."""
        n_late = self._state.store.n_late
        self.late_rows += n_late
        if n_late == 0 or not self._spec.late_output:
            return NOTHING
        return (SideOutput("late", batch.take(pa.array(np.flatnonzero(slots == 0)))),)

    def _progress_table(self, stage: Stage = "final") -> Scalars:
        """Return the table of the late rows' count, and of the progress."""
        fields = [*progress_fields(self.describe(), stage), Field("late_rows", total, stage)]
        return Scalars(fields, self._counts, self._restore_counts)

    def _counts(self) -> dict[str, object]:
        return {**self._progress.values(), "late_rows": self.late_rows}

    def _restore_counts(self, values: Values) -> None:
        if values:
            self._progress.restore(values["watermark"], values["fire_again"])
            self.late_rows = int(values["late_rows"][0])
