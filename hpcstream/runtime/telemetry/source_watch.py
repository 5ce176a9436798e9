"""Watches the watermark of one source on this rank."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hpcstream.columns.event_time import MIN_TIME
from hpcstream.graph.logical import SourceNode
from hpcstream.graph.physical import PhysicalGraph, TaskPlan
from hpcstream.observability.time_doubts import EventTimes
from hpcstream.observability.watermarks import (
    ACTIVE,
    IDLE,
    Jump,
    SourceFacts,
    SourceTime,
    WatermarkHistory,
)
from hpcstream.operators.event_time import AssignEventTime
from hpcstream.runtime.sources.bounded_reader import BoundedReader
from hpcstream.runtime.sources.live_reader import LiveReader
from hpcstream.runtime.tasks.source_task import SourceTask


def source_facts(graph: PhysicalGraph) -> list[SourceFacts]:
    """Return the description of every source of the job, in the order of tasks."""
    return [_facts(task, task.source) for task in graph.tasks if task.source is not None]


def _facts(task: TaskPlan, source: SourceNode) -> SourceFacts:
    facts = SourceFacts(
        task=task.number,
        label=source.source.describe(),
        unit=None if source.time is None else source.time.unit.name,
        delay=source.watermark_delay,
        live=not source.source.bounded,
        idle_timeout_s=source.idle_timeout_s,
    )
    for index, operator in enumerate(task.operators):
        if operator.clock is not None:
            unit, delay = operator.clock
            facts = replace(facts, unit=unit, delay=delay, time_operator=index)
    return facts


class SourceWatch:
    """Records when the watermark of a source advanced, and when its splits had rows.

    Parameters
    ----------
    facts : SourceFacts
    task : SourceTask
        The source on this rank.
    now_s : float

    Attributes
    ----------
    idle_splits : dict of str to float
        Splits that had no rows for longer than their ``idle_timeout``, each with its
        longest time in seconds.
    """

    def __init__(self, facts: SourceFacts, task: SourceTask, now_s: float) -> None:
        self.facts = facts
        self._task = task
        self._round = 0
        self._watermark = MIN_TIME
        self._moved_s = now_s
        self._rows_s: dict[str, tuple[int, float]] = {}
        self._began_s = now_s
        self._history = WatermarkHistory()
        self.idle_splits: dict[str, float] = {}

    def look(self, clock: Callable[[], float]) -> None:
        """Check whether the watermark advanced. Cheap: the worker calls it after each turn."""
        task = self._task
        if task.next_round == self._round:
            return
        self._round = task.next_round
        index = self.facts.time_operator
        watermark = task.watermark if index is None else task.chain.watermarks[index]
        if watermark != self._watermark:
            self._watermark = watermark
            self._moved_s = clock()
            self._history.see(watermark, task.reader.slowest_split or "")

    @property
    def jump(self) -> Jump | None:
        """The disproportionate step of the watermark, if there is one."""
        return self._history.jump

    @property
    def times(self) -> EventTimes | None:
        """The event times of the source on this rank; None without any."""
        facts, index = self.facts, self.facts.time_operator
        if facts.unit is None:
            return None
        if index is None:
            seen = self._task.reader.times
            first, greatest = seen.first, seen.greatest
        else:
            operator = self._task.operators[index]
            assert isinstance(operator, AssignEventTime)
            first, greatest = operator.seen or (None, MIN_TIME)
        if first is None:
            return None
        return EventTimes(facts.label, facts.unit, first, greatest, facts.delay)

    def sample(self, now_s: float) -> SourceTime:
        """Return the progress of the source; about once a second."""
        reader = self._task.reader
        no_rows_s = self._seconds_without_rows(reader, now_s)
        timeout_s = self.facts.idle_timeout_s
        for split, seconds in no_rows_s.items():
            if timeout_s is not None and seconds >= timeout_s:
                self.idle_splits[split] = max(seconds, self.idle_splits.get(split, 0.0))
        if reader.ended or not self._task.has_input:
            return SourceTime()
        state = IDLE if reader.is_idle else ACTIVE
        split = reader.slowest_split or ""
        still_s = now_s - self._moved_s
        return SourceTime(self._watermark, state, still_s, no_rows_s.get(split, 0.0), split)

    def _seconds_without_rows(
        self, reader: BoundedReader | LiveReader, now_s: float
    ) -> dict[str, float]:
        if isinstance(reader, BoundedReader):  # one split after the other; there may be thousands
            read = {reader.slowest_split or "": reader.rows_scanned}
        else:
            read = {split.split.id: split.rows for split in reader.progress if not split.done}
        for split, rows in read.items():
            before = self._rows_s.get(split, (0, self._began_s))
            if rows != before[0]:
                before = (rows, now_s)
            self._rows_s[split] = before
        return {split: now_s - self._rows_s[split][1] for split in read}
