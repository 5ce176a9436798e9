"""Aggregation of sessions on the sending side of an exchange.

The final stage may end a session in the middle of a slice, so it must know all rows before its
watermark, not only those of slices that have ended. Therefore the local stage ships the slice that
contains its watermark, too, each time this advances, and passes rows behind it on as they came:
what it holds back is never before the watermark of the final stage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from hpcstream.operators.base import Emitted, SideOutput
from hpcstream.operators.windows.local import LocalWindowAggregate


class LocalSessionAggregate(LocalWindowAggregate):
    """Partial aggregates per key and slice, for `SessionAggregate`."""

    def process_batch(self, batch: pa.RecordBatch, input_index: int = 0) -> Iterable[Emitted]:
        """Aggregate rows from the watermark on; yield those before it."""
        if not batch.num_rows:
            return ()
        times = self._state.times(batch)
        reached = max(self._watermark, self._reached)
        if int(times.min()) >= reached:
            return super().process_batch(batch)
        return self._part(batch, times < reached)

    def _part(self, batch: pa.RecordBatch, is_behind: np.ndarray) -> Iterator[Emitted]:
        yield SideOutput("rows", batch.filter(pa.array(is_behind)))
        yield from super().process_batch(batch.filter(pa.array(~is_behind)))

    def _ship_limit(self, ended: int) -> int:
        """Return the slice after that with the watermark, which is opened again for later rows."""
        self._all_shipped += 1
        return ended + 1
