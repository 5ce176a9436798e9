"""One task on one rank: takes rounds of its inputs, closes them on its outputs."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from hpcstream.columns.event_time import MAX_TIME
from hpcstream.exchange.edges.base import Edge, RoundEnd
from hpcstream.metric import Gauge
from hpcstream.operators.base import Operator
from hpcstream.runtime.procedure import as_turns
from hpcstream.runtime.tasks.chain import OperatorChain
from hpcstream.runtime.tasks.outputs import Outputs
from hpcstream.runtime.watermark import WatermarkTracker

_COALESCE_ROWS = 16_384


class Task:
    """Runs rounds: an unfinished round is a generator that yields while it waits.

    Parameters
    ----------
    name : str
        For error messages.
    operators : list of (label, Operator)
    inputs : list of Edge
    outputs : Outputs
    number : int
        Of the task in the physical graph.
    """

    rounds = Gauge("rounds", "next_round", over_ranks="max")

    def __init__(
        self,
        name: str,
        operators: Sequence[tuple[str, Operator]],
        inputs: Sequence[Edge],
        outputs: Outputs,
        *,
        number: int = 0,
    ) -> None:
        self.name = name
        self.number = number
        self.inputs = list(inputs)
        self.outputs = outputs
        self.chain = OperatorChain(operators, outputs.emit)
        self.next_round = 0
        self.busy_ns = 0
        self.draining = False
        self.tracker = WatermarkTracker(len(inputs))
        self._end_round: int | None = None
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
    def operators(self) -> Sequence[Operator]:
        """The operators of its chain, in order."""
        return self.chain.operators

    @property
    def is_between_rounds(self) -> bool:
        """Whether the next round has not begun."""
        return self._running is None

    @property
    def finished(self) -> bool:
        """Whether the last round is closed."""
        return self._finished

    @property
    def has_pending(self) -> bool:
        """Whether the job must go on for an operator although no source has rows."""
        return not self.draining and self.chain.has_pending

    def set_clock(self, round_number: int, now_us: int) -> None:
        """Set the time of day from a round on that has not begun."""
        if self.chain.clocked:
            self._times.append((round_number, now_us))

    def end_at(self, round_number: int) -> None:
        """Finish before this round, which has not begun."""
        self._end_round = round_number

    def step(self) -> bool:
        """Continue the current round, or begin the next; return whether anything moved."""
        if self._running is None:
            if self.next_round == self._end_round:
                return self._finish()
            if not self.draining and not self.has_caught_up():
                return False
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

        A task that was idle did not hold time back. Before its next round, and before a
        snapshot, it waits until all ranks have closed the last one, whose marks tell.
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
        """Run the round; look at MPI between two batches, but not before the results."""
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
                yield from as_turns(self.chain.push(0, batch, index))
                has_pushed = True
            self.tracker.receive(index, part.watermark)
        self.tracker.advance()
        yield from self._end_round_with(self.tracker.watermark, self.tracker.mark, busy)

    def _process_clock(self) -> Iterator[bool]:
        """Tell operators the time of day from this round on, if it has changed."""
        if self._times[0][0] <= self.next_round:
            _, now_us = self._times.popleft()
            self._doing = f"time of day {now_us} us"
            yield from as_turns(self.chain.push_clock(now_us))

    def _end_round_with(self, watermark: int, mark: int | None, busy: bool) -> Iterator[bool]:
        self._doing = f"watermark {watermark}"
        of_inputs = self.tracker.watermarks if self._notes_inputs else None
        yield from as_turns(self.chain.push_watermark(watermark, mark, of_inputs))
        self._was_idle = mark is None
        marks = self.chain.marks
        yield from as_turns(
            self.outputs.close(
                self.next_round, lambda output: RoundEnd.of(marks[output[0]], busy=busy)
            )
        )

    # -- checkpoints -------------------------------------------------------------------

    def begin_snapshot(self, round_number: int) -> bool:
        """Return whether everything before a round is in the state, and nothing of the round."""
        is_there = self.is_between_rounds and self.next_round == round_number and not self.draining
        if not is_there or not self.has_caught_up():
            return False
        self._doing = "taking a snapshot"
        return True

    def snapshot(self) -> dict[str, Any]:
        """Return the task's progress (watermark, counters, split positions) as JSON."""
        return {
            "watermark": self.tracker.watermark,
            "watermarks": self.tracker.greatest.copy(),
            "counters": [[counts.rows_in, counts.rows_out] for counts in self.chain.counters],
            "row_bytes": [edge.snapshot() for edge in self.outputs.edges],
        }

    def restore(self, snapshot: Mapping[str, Any], first_round: int) -> None:
        """Continue from a snapshot of the same task of the same plan."""
        self.tracker.restore(snapshot["watermark"], snapshot.get("watermarks", ()))
        for counts, (rows_in, rows_out) in zip(
            self.chain.counters, snapshot["counters"], strict=True
        ):
            counts.restore(rows_in, rows_out)
        for edge, row_bytes in zip(self.outputs.edges, snapshot["row_bytes"], strict=True):
            if row_bytes is not None:
                edge.restore(row_bytes, first_round)

    def commit_notice(self) -> Callable[[], None] | None:
        """Return what to call once the checkpoint taken now is complete; None: nothing."""
        return None

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
        yield from as_turns(
            self.outputs.close(self.next_round, lambda _: RoundEnd(MAX_TIME, abort=True))
        )

    def where(self) -> str:
        """Return what the task was doing, for an error's note."""
        doing = f", {self._doing}" if self._doing else ""
        return f"in {self.name}, round {self.next_round}{doing}"


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
