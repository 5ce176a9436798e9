"""What all ranks do, brought together about once a second while the job runs.

Rank 0 says at a control round that numbers are due (`Status.metrics_due`). The
outcome is the same on all ranks, so all of them post the same all-gather at the
same control round; nobody waits for it. It is looked at now and then, and again
when the rounds are over, so that none is left behind.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hpcstream.connectors.base import Source
from hpcstream.exchange.communicator import Communicator, Request, gather_bytes
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
from hpcstream.runtime.sources.reader import BoundedReader
from hpcstream.runtime.tasks.task import SourceTask, Task
from hpcstream.runtime.telemetry.source_watch import SourceWatch

EVERY_S = 1.0
_SAMPLE_EVERY_S = 0.1

Clock = Callable[[], float]


@dataclass(frozen=True)
class Parts:
    """What of this rank is counted.

    Attributes
    ----------
    tasks : list of Task
    numbers : list of int
        Of the tasks, in the physical graph.
    sinks : list of SinkOperator
    edges : list of Edge
    sources : list of Source
    """

    tasks: Sequence[Task]
    numbers: Sequence[int]
    sinks: Sequence[SinkOperator]
    edges: Sequence[Edge]
    sources: Sequence[Source]


class Telemetry:
    """Counts on this rank, and the gathering of the counts of all.

    Parameters
    ----------
    comm : Communicator
        Private to this.
    facts : list of SourceFacts
        Every source of the job, the same on all ranks.
    parts : Parts
    clock : callable
        Seconds, monotonic.

    Attributes
    ----------
    line : ProgressLine or None
        Where rank 0 shows how far the job is.
    """

    def __init__(
        self,
        comm: Communicator,
        facts: Sequence[SourceFacts],
        parts: Parts,
        clock: Clock,
    ) -> None:
        now_s = clock()
        self.memory = PeakMemory()
        self.watermark_stalls = WatermarkStallTracker(facts)
        self._comm = comm
        self._parts = parts
        self._clock = clock
        self.line: ProgressLine | None = None
        self._facts = list(facts)
        self._live: dict[str, Measurement] = {}
        self._records = ProgressRecords(len(self._facts))
        self._meter = ProgressMeter(now_s)
        self._under_way: deque[tuple[Request, np.ndarray]] = deque()
        self._due_s = now_s + EVERY_S
        self._sample_s = now_s
        self._peaks: defaultdict[tuple[int, int], dict[str, int]] = defaultdict(dict)
        by_number = {one.task: one for one in self._facts}
        self._watches = [
            SourceWatch(by_number[number], task, now_s)
            for number, task in zip(parts.numbers, parts.tasks, strict=True)
            if isinstance(task, SourceTask)
        ]
        self._rows_total = _rows_of(parts.tasks)

    def agree(self) -> Generator[None, None, None]:
        """Have all ranks know the metrics that are declared on any. Collective, before rounds."""
        own = {name: [one.unit, one.over_ranks] for name, one in self._all_measured().items()}
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
        """Return whether this rank asks, in its next status, for the numbers of all."""
        now_s = self._clock()
        if self._comm.rank or self._under_way or now_s < self._due_s:
            return False
        self._due_s = now_s + EVERY_S
        return True

    def at_control(self, outcome: Status, *, is_last: bool) -> None:
        """Post this rank's numbers if the outcome, the same on all ranks, says so."""
        self._sample()
        if not outcome.metrics_due or is_last:
            return
        own = self._records.pack(self.progress())
        everyone = np.empty(own.size * self._comm.size, dtype=np.uint8)
        self._under_way.append((self._comm.all_gather(own, everyone), everyone))

    def poll(self) -> None:
        """Take in the numbers that have come."""
        while self._under_way and self._under_way[0][0].test():
            _, everyone = self._under_way.popleft()
            if self._comm.rank == 0:
                self._show(self._records.unpack(everyone))

    def drain(self) -> Generator[None, None, None]:
        """Wait until nothing is under way, and take the line away. After the last round."""
        while self._under_way:
            self.poll()
            if self._under_way:
                yield
        self.clear_line()

    def clear_line(self) -> None:
        """Take the live line away."""
        if self.line is not None:
            self.line.clear()

    def _show(self, ranks: list[RankProgress]) -> None:
        now_s = self._clock()
        position = self.watermark_stalls.see([rank.sources for rank in ranks], now_s)
        progress = self._meter.measure(ranks, position, self.watermark_stalls.now, now_s)
        progress = replace(progress, metrics=self._added_up(ranks))
        if self.line is not None:
            for times in self.event_times():
                for doubt in doubts(times, has_ended=False):
                    self.line.warn_once(times.source, doubt)
            self.line.show(progress, now_s, time.time())

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
            ((number, place), operator)
            for number, task in zip(self._parts.numbers, self._parts.tasks, strict=True)
            for place, operator in enumerate(task.chain.operators)
        ]

    def measured(self, number: int, index: int) -> dict[str, Measurement]:
        """Return what an operator declares, with its sink: task number, operator's number."""
        chain = self._parts.tasks[self._parts.numbers.index(number)].chain
        parts = chain.counters[index], chain.operators[index]
        return measure(*parts, peaks=self._peaks[number, index])

    def measured_beside(self) -> dict[str, Measurement]:
        """Return what tasks, edges and sources declare."""
        parts = self._parts
        return measure(*parts.tasks, *parts.edges, *parts.sources)

    def _all_measured(self) -> dict[str, Measurement]:
        """Return all that is declared on this rank."""
        of_operators = [self.measured(*key) for key, _ in self._operators()]
        every = (*of_operators, self.measured_beside())
        return together(item for one in every for item in one.items())

    def _added_up(self, ranks: Sequence[RankProgress]) -> dict[str, int]:
        """Return the metrics of all ranks."""
        found = {}
        for index, (name, one) in enumerate(self._live.items()):
            for rank in ranks:
                one = one.plus(replace(one, value=rank.metrics[index]))
            found[name] = one.value
        return found

    def progress(self) -> RankProgress:
        """Return how far this rank is."""
        tasks, now_s = self._parts.tasks, self._clock()
        measured = self._all_measured()
        times = {watch.facts.task: watch.sample(now_s) for watch in self._watches}
        return RankProgress(
            rows_in=sum(task.reader.rows_scanned for task in tasks if isinstance(task, SourceTask)),
            rows_out=sum(sink.rows_out for sink in self._parts.sinks),
            late_rows=sum(one.late_rows for _, one in self._operators()),
            rounds=max((task.rounds for task in tasks), default=0),
            rows_total=self._rows_total,
            sources=tuple(times.get(one.task, SourceTime()) for one in self._facts),
            metrics=tuple(measured.get(name, one).value for name, one in self._live.items()),
        )

    def idle_splits(self) -> dict[str, float]:
        """Return the splits on this rank that were idle, and for how long at most."""
        return {split: s for watch in self._watches for split, s in watch.idle_splits.items()}

    def event_times(self) -> list[EventTimes]:
        """Return the event times that each source has brought on this rank."""
        return [times for watch in self._watches if (times := watch.times) is not None]

    def jumps(self) -> list[JumpReport]:
        """Return the steps of watermarks on this rank that are out of proportion."""
        found = [report_jump(watch.jump, watch.facts, self._comm.rank) for watch in self._watches]
        return [jump for jump in found if jump is not None]


def _rows_of(tasks: Sequence[Task]) -> int:
    """Return the rows of all splits that this rank reads; `UNKNOWN` if one does not tell."""
    readers = [task.reader for task in tasks if isinstance(task, SourceTask)]
    known = [
        one.split.n_rows if isinstance(reader, BoundedReader) else None
        for reader in readers
        for one in reader.progress
    ]
    return UNKNOWN if None in known else sum(rows or 0 for rows in known)
