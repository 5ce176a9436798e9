"""One task on one rank: takes rounds of its inputs, closes them on its outputs."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from hpcstream.columns.event_time import MAX_TIME, MIN_TIME
from hpcstream.exchange.edges.base import Edge, RoundEnd
from hpcstream.metric import Gauge
from hpcstream.operators.base import PAUSE, Operator
from hpcstream.runtime.sources.pacing import Pacer
from hpcstream.runtime.sources.reader import BoundedReader, LiveReader
from hpcstream.runtime.tasks.chain import OperatorChain, Waiting
from hpcstream.runtime.watermark import WatermarkTracker

_COALESCE_ROWS = 16_384

Place = tuple[int, str]
"""An output of a chain: number of the operator, name of its output."""


class Outputs:
    """The edges that a task's outputs feed."""

    def __init__(self, edges: Sequence[tuple[Place, Edge]]) -> None:
        self.edges = [edge for _, edge in edges]
        self._places = [place for place, _ in edges]
        self._closed = [-1] * len(edges)
        self._of_place: dict[Place, list[Edge]] = {}
        for place, edge in edges:
            self._of_place.setdefault(place, []).append(edge)

    def may_start(self, round_number: int) -> bool:
        """Return whether every edge takes this round."""
        # Asked in each turn of the loop, where `all` takes twice as long.
        for edge in self.edges:  # noqa: SIM110
            if not edge.may_start(round_number):
                return False
        return True

    def emit(self, place: Place, batch: pa.RecordBatch) -> Iterator[None]:
        """Send a batch on every edge of an output; nobody may read it."""
        for edge in self._of_place.get(place, ()):
            yield from edge.send(batch)

    def close(self, round_number: int, end_of: Callable[[Place], RoundEnd]) -> Iterator[None]:
        """Close the round on every edge on which it is still open."""
        for index, edge in enumerate(self.edges):
            if self._closed[index] < round_number:
                yield from edge.close(round_number, end_of(self._places[index]))
                self._closed[index] = round_number

    def reached_by(self, index: int, round_number: int) -> int | None:
        """Return how far the consumers of an operator may be after a round that all have closed.

        None as long as some producer beside this task has not closed it.
        """
        reached = MIN_TIME
        for (operator, _), edge in zip(self._places, self.edges, strict=True):
            if operator == index:
                so_far = edge.reached_by(round_number)
                if so_far is None:
                    return None
                reached = max(reached, so_far)
        return reached

    def note_blocked(self, round_number: int) -> None:
        """Tell every edge that the round is begun and waits, so that each helps its peers on."""
        for edge in self.edges:
            edge.note_blocked(round_number)

    def finish(self, end_round: int) -> None:
        """End the stream of every edge."""
        for edge in self.edges:
            edge.finish(end_round)


class Task:
    """Runs rounds: an unfinished one is a generator that yields when it must wait.

    Parameters
    ----------
    name : str
        For error messages.
    operators : list of (label, Operator)
    inputs : list of Edge
    outputs : Outputs
    """

    rounds = Gauge("rounds", "next_round", over_ranks="max")

    def __init__(
        self,
        name: str,
        operators: Sequence[tuple[str, Operator]],
        inputs: Sequence[Edge],
        outputs: Outputs,
    ) -> None:
        self.name = name
        self.inputs = list(inputs)
        self.outputs = outputs
        self.chain = OperatorChain(operators, outputs.emit)
        self.next_round = 0
        self.end_round: int | None = None
        self.cut_round: int | None = None
        self.on_cut: Callable[[Task], None] | None = None
        self.busy_ns = 0
        self.draining = False
        self.tracker = WatermarkTracker(len(inputs))
        self._running: Iterator[bool] | None = None
        self._finished = False
        self._taken = [-1] * len(inputs)
        self._was_idle = False
        self._times: deque[tuple[int, int]] = deque()
        self._notes_inputs = bool(inputs and operators and operators[0][1].notes_watermarks)
        self._doing = ""

    @property
    def watermark(self) -> int:
        """The task's own watermark."""
        return self.tracker.watermark

    @property
    def is_between_rounds(self) -> bool:
        """Whether the next round is not begun."""
        return self._running is None

    @property
    def finished(self) -> bool:
        """Whether the last round is closed."""
        return self._finished

    @property
    def has_pending(self) -> bool:
        """Whether the job is to go on for an operator although no source has rows."""
        return not self.draining and self.chain.has_pending

    def set_clock(self, round_number: int, now_us: int) -> None:
        """Let it be this time from a round on that is not begun yet."""
        if self.chain.clocked:
            self._times.append((round_number, now_us))

    def step(self) -> bool:
        """Go on with the current round, or start the next; return whether anything moved."""
        if self._running is None:
            if self.next_round == self.end_round:
                return self._finish()
            if not self.draining and not self.has_caught_up():
                return False
            if self.next_round == self.cut_round and self.on_cut and not self.draining:
                self.cut_round = None
                self._doing = "taking a snapshot"
                self.on_cut(self)
            if not self._may_start():
                return False
            self._running = self._drained_round() if self.draining else self._round()
        before = time.perf_counter_ns()
        moved = next(self._running, None)
        self.busy_ns += time.perf_counter_ns() - before
        if moved is None:
            self._running = None
            self.next_round += 1
            return True
        if not moved:
            self.outputs.note_blocked(self.next_round)
        return moved

    def _finish(self) -> bool:
        if self._finished:
            return False
        self.outputs.finish(self.next_round)
        self._finished = True
        return True

    def has_caught_up(self) -> bool:
        """Return whether operators that hold rows back know how far time has gone.

        A task that was idle did not hold it back. Before its next round, and before a
        snapshot, it waits until the last one is closed by all, whose marks say it.
        """
        if self._was_idle:
            for index, holder in self.chain.holding:
                reached = self.outputs.reached_by(index, self.next_round - 1)
                if reached is None:
                    return False
                holder.catch_up(reached)
            self._was_idle = False
        return True

    def _may_start(self) -> bool:
        for edge in self.inputs:
            if not edge.has_round(self.next_round):
                return False
        return self.outputs.may_start(self.next_round)

    def _round(self) -> Iterator[bool]:
        """Take the round; look at MPI between two batches, but not before the results."""
        if self._times:
            yield from self._process_clock()
        busy = has_pushed = False
        for index, edge in enumerate(self.inputs):
            part = edge.take(self.next_round)
            self._taken[index] = self.next_round
            busy = busy or part.busy
            for batch in coalesced(part.batches):
                if has_pushed:
                    yield True
                self._doing = f"batch of {batch.num_rows} rows from {edge.name}"
                yield from _moving(self.chain.push(0, batch, index))
                has_pushed = True
            self.tracker.receive(index, part.watermark)
        self.tracker.advance()
        yield from self._end_round(self.tracker.watermark, self.tracker.mark, busy)

    def _process_clock(self) -> Iterator[bool]:
        """Tell operators the time that is in force from this round on, if it is another."""
        if self._times[0][0] <= self.next_round:
            _, now_us = self._times.popleft()
            self._doing = f"time of day {now_us} us"
            yield from _moving(self.chain.push_clock(now_us))

    def _end_round(self, watermark: int, mark: int | None, busy: bool) -> Iterator[bool]:
        self._doing = f"watermark {watermark}"
        of_inputs = self.tracker.watermarks if self._notes_inputs else None
        yield from _moving(self.chain.push_watermark(watermark, mark, of_inputs))
        self._was_idle = mark is None
        marks = self.chain.marks
        yield from _moving(
            self.outputs.close(
                self.next_round, lambda place: RoundEnd.of(marks[place[0]], busy=busy)
            )
        )

    # -- after a failure --------------------------------------------------------------

    def drain(self) -> None:
        """Run no user code from now on; close every round empty, with the abort flag."""
        self.draining = True
        if self._running is not None:
            self._running = self._drained_round()

    def _drained_round(self) -> Iterator[bool]:
        for index, edge in enumerate(self.inputs):
            if self._taken[index] < self.next_round:
                while not edge.has_round(self.next_round):
                    yield False
                edge.take(self.next_round)
                self._taken[index] = self.next_round
        yield from _moving(
            self.outputs.close(self.next_round, lambda _: RoundEnd(MAX_TIME, abort=True))
        )

    def where(self) -> str:
        """Return what the task was doing, for an error's note."""
        doing = f", {self._doing}" if self._doing else ""
        return f"in {self.name}, round {self.next_round}{doing}"


class SourceTask(Task):
    """A task that begins with a source: its rounds begin here.

    Parameters
    ----------
    reader : BoundedReader or LiveReader
    gate : object with ``may_start(round)``
        Control: how far sources may go.
    batch_rows, round_bytes : int
        Rows scanned for one round, and the bytes at which a bounded source closes it sooner.
    rounds_in_flight : int
        How many rounds the outputs take at once.
    pacer : Pacer or None
        Says when a live source closes a round; None for bounded sources.
    """

    def __init__(
        self,
        *task: Any,
        reader: BoundedReader | LiveReader,
        gate: Any,
        batch_rows: int,
        round_bytes: int = 1 << 62,
        rounds_in_flight: int = 1,
        pacer: Pacer | None = None,
    ) -> None:
        super().__init__(*task)
        self.reader = reader
        self._gate = gate
        self._batch_rows = batch_rows
        self._round_bytes = round_bytes
        self._rounds_in_flight = rounds_in_flight
        self.pacer = pacer

    @property
    def has_input(self) -> bool:
        """Whether rows, or the end of the stream, are still to be handed on."""
        return not self.draining and self.watermark != MAX_TIME

    @property
    def watermark(self) -> int:
        """The least event time that may still come."""
        return self._tracker_watermark

    _tracker_watermark = MIN_TIME

    def restore_watermark(self, watermark: int) -> None:
        """Promise again what was promised before a restart."""
        self._tracker_watermark = watermark

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
        therefore begins when the last is through, and takes what has come meanwhile.
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
            yield from _moving(self.chain.push(0, batch))
            self._doing = "reading"
        mark = self.reader.mark
        if mark is not None:
            self._tracker_watermark = max(self._tracker_watermark, mark)
        goes_on = not self.reader.ended if self.pacer is None else self.pacer.was_busy
        yield from self._end_round(self._tracker_watermark, mark, had_rows or goes_on)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        if isinstance(self.reader, BoundedReader):
            return self.reader.read_round(self._batch_rows, self._round_bytes)
        assert self.pacer is not None, "a live source is paced"
        return self.pacer.take(self.next_round)


def coalesced(batches: list[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the batches in order, small neighbours joined into one."""
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        if waiting and rows + batch.num_rows > _COALESCE_ROWS:
            yield _joined(waiting)
            waiting, rows = [], 0
        waiting.append(batch)
        rows += batch.num_rows
    if waiting:
        yield _joined(waiting)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _moving(waits: Waiting) -> Iterator[bool]:
    """Turn waits into the worker's word for them: something moved before a `PAUSE` only."""
    for wait in waits:
        yield wait is PAUSE
