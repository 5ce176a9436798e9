"""A task that begins with a source."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import pyarrow as pa

from hpcstream.columns.event_time import MAX_TIME, MIN_TIME
from hpcstream.runtime.procedure import as_turns
from hpcstream.runtime.sources.bounded_reader import BoundedReader
from hpcstream.runtime.sources.live_reader import LiveReader
from hpcstream.runtime.sources.pacing import Pacer
from hpcstream.runtime.sources.split_progress import SplitProgress
from hpcstream.runtime.tasks.task import Task


class RoundGate(Protocol):
    """Limits how far sources may go."""

    def may_start(self, round_number: int) -> bool:
        """Return whether a source may begin this round."""


class SourceTask(Task):
    """A task that begins with a source: its rounds begin here.

    Parameters
    ----------
    reader : BoundedReader or LiveReader
    gate : RoundGate
    batch_rows, round_bytes : int
        Rows scanned for one round, and the bytes at which a bounded source closes it sooner.
    rounds_in_flight : int
        How many rounds may be under way on the outputs.
    pacer : Pacer or None
        Decides when a live source closes a round; None for bounded sources.
    number : int
        Of the task in the physical graph.
    """

    def __init__(
        self,
        *task: Any,
        reader: BoundedReader | LiveReader,
        gate: RoundGate,
        batch_rows: int,
        round_bytes: int = 1 << 62,
        rounds_in_flight: int = 1,
        pacer: Pacer | None = None,
        number: int = 0,
    ) -> None:
        super().__init__(*task, number=number)
        self.reader = reader
        self.pacer = pacer
        self._gate = gate
        self._batch_rows = batch_rows
        self._round_bytes = round_bytes
        self._rounds_in_flight = rounds_in_flight
        self._watermark = MIN_TIME

    @property
    def has_input(self) -> bool:
        """Whether rows, or the end of the stream, are still to be passed on."""
        return not self.draining and self.watermark != MAX_TIME

    @property
    def watermark(self) -> int:
        """The least event time that may still come."""
        return self._watermark

    def _may_start(self) -> bool:
        if not self._gate.may_start(self.next_round):
            return False
        if not self.outputs.may_start(self.next_round + self._rounds_to_spare()):
            return False
        return self.pacer is None or self.draining or self.pacer.may_open()

    def _rounds_to_spare(self) -> int:
        """Return how many of the rounds in flight are left unused.

        A result waits for all rounds before it: the time of a round times the rounds in
        flight (Little's law). While a live source's rounds are not full, the next one
        therefore begins when the last is through, and takes the rows of the meantime.
        """
        if self.pacer is None or self.draining or self.pacer.was_full:
            return 0
        return self._rounds_in_flight - 1

    def _round(self) -> Iterator[bool]:
        if self._times:
            yield from self._process_clock()
        self._doing = "reading"
        had_rows = False
        for batch in self._batches():
            if had_rows:
                yield True
            had_rows = True
            self._doing = f"batch of {batch.num_rows} rows from the source"
            yield from as_turns(self.chain.push(0, batch))
            self._doing = "reading"
        mark = self.reader.mark
        if mark is not None:
            self._watermark = max(self._watermark, mark)
        is_busy = not self.reader.ended if self.pacer is None else self.pacer.was_busy
        yield from self._end_round_with(self._watermark, mark, had_rows or is_busy)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        if isinstance(self.reader, BoundedReader):
            return self.reader.read_round(self._batch_rows, self._round_bytes)
        assert self.pacer is not None, "a live source is paced"
        return self.pacer.take(self.next_round)

    # -- checkpoints -------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return the task's progress, and how far closed rounds have read the source, as JSON."""
        return super().snapshot() | {"source": self._source_snapshot()}

    def _source_snapshot(self) -> dict[str, Any]:
        snapshot: dict[str, Any] = {"watermark": self._watermark}
        reader = self.reader
        if isinstance(reader, LiveReader):
            assert self.pacer is not None, "a live source is paced"
            splits = [progress.to_json() for progress in self._splits_in_rounds()]
            return snapshot | {"rows": self.pacer.mark[0], "splits": splits}
        return snapshot | {
            "rows": reader.rows_scanned,
            "splits": reader.progress_as_json(),
            "reader": reader.snapshot(),
        }

    def _splits_in_rounds(self) -> list[SplitProgress]:
        """Return how far closed rounds have read each split."""
        if self.pacer is None:
            return self.reader.progress
        pairs = zip(self.reader.progress, self.pacer.mark[1], strict=True)
        return [SplitProgress(progress.number, progress.split, *mark) for progress, mark in pairs]

    def commit_notice(self) -> Callable[[], None] | None:
        """Return what notifies the source of its committed positions; None: it wants no notice."""
        source = self.reader.source
        if not source.hears_commits:
            return None
        found = {progress.split.id: progress.resume_at for progress in self._splits_in_rounds()}
        positions = {split: at for split, at in found.items() if at is not None}

        def notify() -> None:
            try:
                source.committed(positions)
            except Exception as error:
                error.add_note(f"while {source.describe()} was told of a checkpoint")
                raise

        return notify

    def restore(self, snapshot: Mapping[str, Any], first_round: int) -> None:
        """Continue from a snapshot of the same task, which read the same splits."""
        super().restore(snapshot, first_round)
        source = snapshot["source"]
        self._watermark = source["watermark"]
        self.reader.count_from(source["rows"])
        if isinstance(self.reader, BoundedReader):
            self.reader.restore(source["reader"])
        elif self.pacer is not None:
            self.pacer.restart()

    def restore_reassigned(self, sources: Sequence[Mapping[str, Any]], instance: int) -> None:
        """Continue with splits that other ranks read before.

        Parameters
        ----------
        sources : list of dict
            The ``source`` of the snapshots of all of them. No row is before the least watermark.
        instance : int
            Of this task; the first counts the rows that all of them have read.
        """
        self._watermark = min(source["watermark"] for source in sources)
        if instance == 0:
            self.reader.count_from(sum(source["rows"] for source in sources))
        if self.pacer is not None:
            self.pacer.restart()
