"""Reads the splits of a bounded source one after the other.

A round ends by the rows scanned alone, so that rounds are a function of the input.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from hpcstream.checkpoint.json_text import JsonText
from hpcstream.columns.arrays import fixed_row_bytes
from hpcstream.columns.event_time import MAX_TIME
from hpcstream.connectors.base import Source, SplitReader
from hpcstream.errors import ConnectorError
from hpcstream.runtime.sources.split_progress import SplitProgress
from hpcstream.runtime.sources.stamping import RowStamper, SeenTimes, SourceSpec, times_of
from hpcstream.runtime.watermark import BoundedWatermark

MAX_BATCH_ROWS = 131_072
"""Most rows of a batch: the kernels of operators run on it between two looks at MPI."""

_MOST_EMPTY_LOOKS = 128  # without a row in one round, of which one finds that a split has ended
_MOST_EMPTY_CHUNKS = 1000  # in a row


class BoundedReader:
    """Reads the rank's splits of a bounded source, one after the other.

    Parameters
    ----------
    spec : SourceSpec
    splits : list of SplitProgress
        This rank's, in reading order.
    """

    def __init__(self, spec: SourceSpec, splits: Sequence[SplitProgress]) -> None:
        self._spec = spec
        self._stamper = RowStamper(spec)
        self._row_bytes = fixed_row_bytes(spec.schema)
        self.progress = list(splits)
        self._current = 0
        self._texts: list[str] = []  # JSON of each split
        self._n_settled = 0  # of them are final
        self._reader: SplitReader | None = None
        self._n_empty = 0  # chunks without a row since the last one with some
        self._watermark = BoundedWatermark(
            [progress.split.first_time for progress in splits], spec.watermark_delay
        )
        self.rows_scanned = 0
        self.times = SeenTimes()

    def progress_as_json(self) -> JsonText:
        """Return the progress of all splits, `SplitProgress.to_json` each.

        A source may have ten thousand: text of those that have not begun, or are done, is kept.
        """
        if not self._texts:
            self._texts = [json.dumps(progress.to_json()) for progress in self.progress]
        for number in range(self._n_settled, min(self._current + 1, len(self.progress))):
            self._texts[number] = json.dumps(self.progress[number].to_json())
        self._n_settled = self._current
        return JsonText(f"[{', '.join(self._texts)}]")

    def snapshot(self) -> dict[str, Any]:
        """Return what `restore` takes besides the progress of the splits."""
        return {"current": self._current, "watermark": self._watermark.snapshot()}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from a snapshot of the same splits."""
        self._current = snapshot["current"]
        self._watermark.restore(snapshot["watermark"])

    @property
    def source(self) -> Source:
        """What is read."""
        return self._spec.source

    def count_from(self, rows: int) -> None:
        """Count on from the rows that were scanned before a restart."""
        self.rows_scanned = rows

    @property
    def ended(self) -> bool:
        """Whether every split is exhausted."""
        return self._current == len(self.progress)

    @property
    def watermark(self) -> int:
        """The least event time that may still come."""
        return MAX_TIME if self.ended else self._watermark.watermark

    @property
    def mark(self) -> int:
        """The mark of all splits: never idle, which is a matter of the clock."""
        return self.watermark

    @property
    def is_idle(self) -> bool:
        """A bounded source is never idle by the clock."""
        return False

    @property
    def slowest_split(self) -> str | None:
        """The split that holds the watermark back: the one being read."""
        return None if self.ended else self.progress[self._current].split.id

    def read_round(self, max_rows: int, max_bytes: int = 1 << 62) -> Iterator[pa.RecordBatch]:
        """Yield the batches of one round: at least ``max_rows`` scanned rows, or so many bytes.

        Up to half as many rows more, so that the round's end does not cut the chunk of a split:
        all later rounds would begin with the rest. Fewer only at the end, and after many splits
        without rows, which take time, too. The end depends on nothing but the input.
        """
        rows_left, bytes_left, empty = max_rows, max_bytes, 0
        while rows_left > 0 and bytes_left > 0 and empty < _MOST_EMPTY_LOOKS and not self.ended:
            wanted = max(rows_left, max_rows // 2)
            batch, scanned = self._read(min(wanted, MAX_BATCH_ROWS))
            rows_left -= scanned
            empty = 0 if scanned else empty + 1
            if batch is not None and batch.num_rows:
                bytes_left -= self._bytes_of(batch)
                yield batch

    def _bytes_of(self, batch: pa.RecordBatch) -> int:
        """Return the bytes of a batch's values; Arrow takes 25 µs to count them."""
        if self._row_bytes is None:
            return int(batch.nbytes)
        return math.ceil(self._row_bytes * int(batch.num_rows))

    def _read(self, max_rows: int) -> tuple[pa.RecordBatch | None, int]:
        progress = self.progress[self._current]
        if self._reader is None:
            self._reader = progress.opened(self._spec.source)
        chunk = self._reader.read(max_rows)
        if chunk is None:
            self._close_split()
            return None, 0
        self._n_empty = 0 if chunk.scanned else self._n_empty + 1
        if self._n_empty > _MOST_EMPTY_CHUNKS:
            raise ConnectorError(
                f"{progress.split.id}: {_MOST_EMPTY_CHUNKS:,} chunks in a row without a row, at "
                f"row {progress.rows:,}; the reader of a bounded source returns None at its end"
            )
        self.rows_scanned += chunk.scanned
        start = progress.advance(chunk)
        if not chunk.batch.num_rows:
            return None, chunk.scanned
        batch = self._stamper.stamp(chunk.batch, progress.split, progress.number, start)
        if self._spec.time is not None:
            self._watermark.see(self.times.see(times_of(batch)))
        return batch, chunk.scanned

    def _close_split(self) -> None:
        assert self._reader is not None
        self._reader.close()
        self._reader, self._n_empty = None, 0
        self.progress[self._current].end()
        self._current += 1
        self._watermark.next_split()

    def close(self) -> None:
        """Close the open reader."""
        if self._reader is not None:
            self._reader.close()
