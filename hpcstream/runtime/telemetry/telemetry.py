"""Gathers the metrics of all ranks about once a second while the job runs.

Rank 0 says at a control round that metrics are due (`Status.metrics_due`). The
outcome is the same on all ranks, so all of them post the same all-gather at the
same control round, and no rank waits for it. It is tested a few times a second, and
again after the last round, so that no message is left under way.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hpcstream.connectors.base import Source
from hpcstream.exchange.communicator import Communicator, Procedure, Request, gather_bytes
from hpcstream.exchange.edges.base import Edge
from hpcstream.host.process_memory import PeakMemory
from hpcstream.metric import Measurement, measure, note_peaks, together
from hpcstream.observability.progress import (
    UNKNOWN,
    ProgressLine,
    ProgressMeter,
    ProgressRecords,
    RankProgress,
)
from hpcstream.observability.time_doubts import EventTimes, doubts
from hpcstream.observability.watermarks import (
    JumpReport,
    SourceFacts,
    SourceTime,
    WatermarkStallTracker,
    report_jump,
)
from hpcstream.operators.base import Operator
from hpcstream.operators.sink import SinkOperator
from hpcstream.runtime.control import Status
from hpcstream.runtime.sources.bounded_reader import BoundedReader
from hpcstream.runtime.tasks.source_task import SourceTask
from hpcstream.runtime.tasks.task import Task
from hpcstream.runtime.telemetry.source_watch import SourceWatch

EVERY_S = 1.0
_SAMPLE_EVERY_S = 0.1

Clock = Callable[[], float]


@dataclass(frozen=True)
class CountedParts:
    """The parts of this rank that declare metrics.

    Attributes
    ----------
    tasks : list of Task
    sinks : list of SinkOperator
    edges : list of Edge
    sources : list of Source
    """

    tasks: Sequence[Task]
    sinks: Sequence[SinkOperator]
    edges: Sequence[Edge]
    sources: Sequence[Source]


class Telemetry:
    """Measures this rank, and gathers the metrics of all ranks.

    Parameters
    ----------
    comm : Communicator
        Private to this.
    facts : list of SourceFacts
        Every source of the job, the same on all ranks.
    parts : CountedParts
    clock : callable
        Seconds, monotonic.
    line : ProgressLine or None
        Where rank 0 shows the progress of the job.
    """

    def __init__(
        self,
        comm: Communicator,
        facts: Sequence[SourceFacts],
        parts: CountedParts,
        clock: Clock,
        line: ProgressLine | None = None,
    ) -> None:
        now_s = clock()
        self.memory = PeakMemory()
        self.watermark_stalls = WatermarkStallTracker(facts)
        self._comm = comm
        self._parts = parts
        self._clock = clock
        self._line = line
        self._facts = list(facts)
        self._live: dict[str, Measurement] = {}
        self._records = ProgressRecords(len(self._facts))
        self._meter = ProgressMeter(now_s)
        self._under_way: deque[tuple[Request, np.ndarray]] = deque()
        self._due_s = now_s + EVERY_S
        self._sample_s = now_s
        self._peaks: defaultdict[tuple[int, int], dict[str, int]] = defaultdict(dict)
        by_number = {source.task: source for source in self._facts}
        self._watches = [
            SourceWatch(by_number[task.number], task, now_s)
            for task in parts.tasks
            if isinstance(task, SourceTask)
        ]
        self._rows_total = _rows_of(parts.tasks)

    def agree(self) -> Procedure[None]:
        """Agree on the metrics that any rank declares. Collective, before the rounds."""
        own = {name: [m.unit, m.over_ranks] for name, m in self._all_measured().items()}
        texts = yield from gather_bytes(self._comm, json.dumps(own).encode())
        declared = {name: given for text in texts for name, given in json.loads(text).items()}
        self._live = {name: Measurement(0, *declared[name]) for name in sorted(declared)}
        self._records = ProgressRecords(len(self._facts), len(self._live))

    # -- in the loop -------------------------------------------------------------------

    def look(self) -> None:
        """Note which watermarks moved; after a turn in which something moved."""
        for watch in self._watches:
            watch.look(self._clock)

    def is_due(self) -> bool:
        """Return whether this rank asks for the metrics of all, in its next status."""
        now_s = self._clock()
        if self._comm.rank or self._under_way or now_s < self._due_s:
            return False
        self._due_s = now_s + EVERY_S
        return True

    def at_control(self, outcome: Status, *, is_last: bool) -> None:
        """Post this rank's metrics if the outcome, which all ranks have, says so."""
        self._sample()
        if not outcome.metrics_due or is_last:
            return
        own = self._records.pack(self.progress())
        everyone = np.empty(own.size * self._comm.size, dtype=np.uint8)
        self._under_way.append((self._comm.all_gather(own, everyone), everyone))

    def poll(self) -> None:
        """Show the metrics that have arrived."""
        while self._under_way and self._under_way[0][0].test():
            _, everyone = self._under_way.popleft()
            if self._comm.rank == 0:
                self._show(self._records.unpack(everyone))

    def drain(self) -> Procedure[None]:
        """Wait until nothing is under way, and clear the line. After the last round."""
        while self._under_way:
            self.poll()
            if self._under_way:
                yield
        self.clear_line()

    def clear_line(self) -> None:
        """Clear the live line."""
        if self._line is not None:
            self._line.clear()

    def _show(self, ranks: list[RankProgress]) -> None:
        now_s = self._clock()
        position = self.watermark_stalls.see([rank.sources for rank in ranks], now_s)
        progress = self._meter.measure(ranks, position, self.watermark_stalls.now, now_s)
        progress = replace(progress, metrics=self._added_up(ranks))
        if self._line is not None:
            for times in self.event_times():
                for doubt in doubts(times, has_ended=False):
                    self._line.warn_once(times.source, doubt)
            self._line.show(progress, now_s, time.time())

    # -- counts of this rank -----------------------------------------------------------

    def _sample(self) -> None:
        now_s = self._clock()
        if now_s < self._sample_s:
            return
        self._sample_s = now_s + _SAMPLE_EVERY_S
        self.memory.sample()
        for key, operator in self._operators():
            note_peaks(operator, self._peaks[key])

    def _operators(self) -> list[tuple[tuple[int, int], Operator]]:
        return [
            ((task.number, index), operator)
            for task in self._parts.tasks
            for index, operator in enumerate(task.operators)
        ]

    def measured(self, number: int, index: int) -> dict[str, Measurement]:
        """Return the metrics of an operator and its sink, by its task and its index there."""
        (chain,) = (task.chain for task in self._parts.tasks if task.number == number)
        parts = chain.counters[index], chain.operators[index]
        return measure(*parts, peaks=self._peaks[number, index])

    def measured_beside(self) -> dict[str, Measurement]:
        """Return what tasks, edges and sources declare."""
        parts = self._parts
        return measure(*parts.tasks, *parts.edges, *parts.sources)

    def _all_measured(self) -> dict[str, Measurement]:
        """Return all metrics of this rank."""
        by_operator = [self.measured(*key) for key, _ in self._operators()]
        every = (*by_operator, self.measured_beside())
        return together(item for metrics in every for item in metrics.items())

    def _added_up(self, ranks: Sequence[RankProgress]) -> dict[str, int]:
        """Return the metrics of all ranks together."""
        totals = {}
        for index, (name, total) in enumerate(self._live.items()):
            for rank in ranks:
                total = total.plus(replace(total, value=rank.metrics[index]))
            totals[name] = total.value
        return totals

    def progress(self) -> RankProgress:
        """Return the progress of this rank."""
        tasks, now_s = self._parts.tasks, self._clock()
        measured = self._all_measured()
        times = {watch.facts.task: watch.sample(now_s) for watch in self._watches}
        return RankProgress(
            rows_in=sum(task.reader.rows_scanned for task in tasks if isinstance(task, SourceTask)),
            rows_out=sum(sink.rows_out for sink in self._parts.sinks),
            late_rows=sum(operator.late_rows for _, operator in self._operators()),
            rounds=max((task.rounds for task in tasks), default=0),
            rows_total=self._rows_total,
            sources=tuple(times.get(source.task, SourceTime()) for source in self._facts),
            metrics=tuple(measured.get(name, zero).value for name, zero in self._live.items()),
        )

    def idle_splits(self) -> dict[str, float]:
        """Return the splits of this rank that were idle, each with its longest time in seconds."""
        return {split: s for watch in self._watches for split, s in watch.idle_splits.items()}

    def event_times(self) -> list[EventTimes]:
        """Return the event times of each source on this rank."""
        return [times for watch in self._watches if (times := watch.times) is not None]

    def jumps(self) -> list[JumpReport]:
        """Return the disproportionate steps of watermarks on this rank."""
        found = [report_jump(watch.jump, watch.facts, self._comm.rank) for watch in self._watches]
        return [jump for jump in found if jump is not None]


def _rows_of(tasks: Sequence[Task]) -> int:
    """Return the rows of all splits of this rank; `UNKNOWN` if one is not known."""
    readers = [task.reader for task in tasks if isinstance(task, SourceTask)]
    known = [
        progress.split.n_rows if isinstance(reader, BoundedReader) else None
        for reader in readers
        for progress in reader.progress
    ]
    return UNKNOWN if None in known else sum(rows or 0 for rows in known)
