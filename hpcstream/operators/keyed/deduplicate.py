"""Rows that repeat an earlier one of their key are left out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from hpcstream.columns.arrays import fixed_values
from hpcstream.columns.event_time import MIN_TIME, TIME_COLUMN
from hpcstream.columns.kept_batches import take_rows
from hpcstream.kernels import ordered_rows
from hpcstream.metric import Counter
from hpcstream.operators.base import Emitted
from hpcstream.operators.keyed.operator import KeyedOperator
from hpcstream.operators.keyed.spec import KeyedSpec
from hpcstream.operators.spec import OperatorContext
from hpcstream.state.arrays import Allocator, Slots, Word


class Deduplicate(KeyedOperator):
    """Keeps a row unless one of its key was kept less than ``within`` before: a word a key.

    Parameters
    ----------
    spec, context, allocator
        As for `KeyedOperator`.
    within : int or None
        In ticks; None: for ever.

    Attributes
    ----------
    duplicates : int
        Rows that were left out.
    """

    duplicates = Counter("duplicates")

    def __init__(
        self,
        spec: KeyedSpec,
        context: OperatorContext,
        allocator: Allocator,
        *,
        within: int | None,
    ) -> None:
        super().__init__(spec, context, (Word("until", "int64", MIN_TIME),), allocator)
        self._within = within

    def on_rows(self, batch: pa.RecordBatch, slots: Slots) -> Iterator[Emitted]:
        """Yield the rows that are kept."""
        times, keep = fixed_values(batch.column(TIME_COLUMN)), np.empty(len(slots), dtype=np.bool_)
        within = -1 if self._within is None else self._within
        (until,) = self._state.words
        n_kept = ordered_rows.keep_first(slots, times, within, until, keep)
        self.duplicates += len(slots) - n_kept
        kept = np.flatnonzero(keep)
        if self._within is not None:
            self._state.set_due(slots[kept], times[kept] + self._within)
        if n_kept:
            yield batch if n_kept == len(slots) else take_rows(batch, kept.astype(np.uint32))
