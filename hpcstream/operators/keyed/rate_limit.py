"""So many rows of each key a time: a token bucket in event time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from hpcstream.columns.arrays import fixed_values
from hpcstream.columns.event_time import MIN_TIME, TIME_COLUMN
from hpcstream.columns.kept_batches import take_rows
from hpcstream.kernels import ordered_rows
from hpcstream.metric import Counter
from hpcstream.operators.base import Emitted, SideOutput
from hpcstream.operators.keyed.operator import KeyedOperator
from hpcstream.operators.keyed.spec import LIMITED, KeyedSpec
from hpcstream.operators.spec import OperatorContext
from hpcstream.state.arrays import Allocator, Slots, Word


class RateLimit(KeyedOperator):
    """Lets a row through if the bucket of its key has a token: two words a key.

    Parameters
    ----------
    spec, context, allocator
        As for `KeyedOperator`.
    rate : (int, int)
        So many tokens in so many ticks.
    burst : int
        Tokens of a full bucket.

    Attributes
    ----------
    limited_rows : int
        Rows that found none.
    """

    limited_rows = Counter("limited rows")

    def __init__(
        self,
        spec: KeyedSpec,
        context: OperatorContext,
        allocator: Allocator,
        *,
        rate: tuple[int, int],
        burst: int,
    ) -> None:
        words = (Word("full", "int64", MIN_TIME), Word("full_parts", "int64", 0))
        super().__init__(spec, context, words, allocator)
        # A token takes per / rows ticks: whole ones, and parts of which ``rows`` make one.
        rows, per = rate
        self._rate = (*divmod(per, rows), rows, *divmod((burst - 1) * per, rows))
        self._reads_limited = LIMITED in context.sides

    def on_rows(self, batch: pa.RecordBatch, slots: Slots) -> Iterator[Emitted]:
        """Yield the rows that are let through, and the others if somebody reads them."""
        times, keep = fixed_values(batch.column(TIME_COLUMN)), np.empty(len(slots), dtype=np.bool_)
        state = (self._state.words[0], self._state.words[1])
        n_kept = ordered_rows.take_tokens(slots, times, self._rate, state, keep)
        self.limited_rows += len(slots) - n_kept
        # A bucket that is full is that of a new key.
        self._state.set_due(slots, state[0][slots] + (state[1][slots] > 0))
        if n_kept == len(slots):
            yield batch
            return
        if n_kept:
            yield take_rows(batch, np.flatnonzero(keep).astype(np.uint32))
        if self._reads_limited:
            yield SideOutput(LIMITED, take_rows(batch, np.flatnonzero(~keep).astype(np.uint32)))
