"""The loop of one rank: edges, control, tasks, in this order, until the last round.

The only place that orders these. It is a generator: it yields whether anything
moved, so that a driver may wait (MPI) or run another rank (simulation).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence

from hpcstream.exchange.edges.base import Edge
from hpcstream.process.family import end_if_child
from hpcstream.process.stop_signals import AskedToStop, StopRequest
from hpcstream.runtime.checkpoints.coordinator import Checkpointing
from hpcstream.runtime.control import CLOCK_US, ControlGate, Status
from hpcstream.runtime.loop.waking import Waking, is_quiet
from hpcstream.runtime.sources.discovery import Discovery
from hpcstream.runtime.sources.pacing import BUSY_ROUNDS, MOST_STRETCHED_S
from hpcstream.runtime.tasks.task import SourceTask, Task
from hpcstream.runtime.telemetry.telemetry import Telemetry

Clock = Callable[[], float]

PENDING_ROUND_S = 0.005
"""Time between rounds in which operators only wait for what is to come."""


class Worker:
    """Runs this rank's tasks to the end of the job.

    Parameters
    ----------
    tasks : list of Task
        In an order in which every local edge points forward.
    edges : list of Edge
        Every edge that this rank takes part in.
    gate : ControlGate
    waking : Waking
    clock : callable
        Seconds, monotonic.
    abort_timeout_s : float
        How long the ranks may take to agree on a failure.
    time_of_day : callable
        Seconds since the epoch.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        edges: Sequence[Edge],
        gate: ControlGate,
        waking: Waking,
        clock: Clock,
        abort_timeout_s: float,
        time_of_day: Clock = time.time,
    ) -> None:
        self.tasks = list(tasks)
        self.edges = list(edges)
        self.gate = gate
        self.error: BaseException | None = None
        self.failed_elsewhere = False
        self.exchange_ns = 0
        self.outcome = Status()
        self.on_control: Callable[[Status], None] | None = None
        self.telemetry: Telemetry | None = None
        self.checkpoints: Checkpointing | None = None
        self.discovery: Discovery | None = None
        self.stop: StopRequest = AskedToStop()
        self._sources = [task for task in tasks if isinstance(task, SourceTask)]
        self._pacers = [task.pacer for task in self._sources if task.pacer is not None]
        self.waking = waking
        self.at_work: Task | None = None
        self._clock = clock
        self._time_of_day = time_of_day
        self._abort_timeout_s = abort_timeout_s
        self._clocked = [task for task in tasks if task.chain.clocked]
        self._now_us = 0
        self._failed_s: float | None = None
        self._boundary_s = clock()
        self._boundary_round = 0
        self._busy_round = -1
        self._told_boundary = -1
        self._awake_until = -1

    @property
    def rank(self) -> int:
        """The number of this rank."""
        return self.waking.rank

    # -- the loop ----------------------------------------------------------------------

    def run(self) -> Generator[bool, None, None]:
        """Run every round. Yields whether anything moved; raises nothing of the user's.

        Afterwards ``error`` is this rank's own failure, if any, and
        ``failed_elsewhere`` says whether another rank had one.
        """
        self.gate.open(self._status())
        moved = False
        while not self._done():
            edges_moved = self._progress_edges()
            self._follow_the_busiest(moved or edges_moved)
            moved = edges_moved
            if self._progress_control():
                moved = True
            for task in self.tasks:
                if self._step(task):
                    moved = True
            if self._progress_checkpoints():
                moved = True
            if self.discovery is not None and self._progress_discovery(self.discovery):
                moved = True
            if moved and self.telemetry is not None:
                self.telemetry.look()
            yield moved

    def _progress_edges(self) -> bool:
        before = time.perf_counter_ns()
        moved = False
        for edge in self.edges:
            if edge.progress():
                moved = True
        if moved:
            self._heed_aborts()
        self.exchange_ns += time.perf_counter_ns() - before
        return moved

    def _heed_aborts(self) -> None:
        is_whole = not self.failed_elsewhere and self.error is None
        if is_whole and any(edge.abort_seen for edge in self.edges):
            self.failed_elsewhere = True
            self._drain()

    def _step(self, task: Task) -> bool:
        if (self.checkpoints or self._clocked) and self._awaits_control(task):
            return False
        self.at_work = task
        try:
            moved = task.step()
            end_if_child()
            self.at_work = None
            return moved
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            end_if_child(error)
            if task.draining:
                raise
            self._fail(error, task)
            return True

    def _awaits_control(self, task: Task) -> bool:
        """Whether the next round may be one from which on this rank has not heard something yet.

        A checkpoint may begin with it, or another time of day.
        """
        gate = self.gate
        return (
            gate.end_round is None
            and task.is_between_rounds
            and not gate.may_start(task.next_round)
        )

    def _progress_checkpoints(self) -> bool:
        if self.checkpoints is None:
            return False
        try:
            return self.checkpoints.progress()
        except Exception as error:
            if self.error is None and not self.failed_elsewhere:
                self._note_failure(error)
            return True

    def _progress_discovery(self, discovery: Discovery) -> bool:
        try:
            return discovery.progress()
        except Exception as error:
            if self.error is None and not self.failed_elsewhere:
                self._note_failure(error)
            return True

    def _done(self) -> bool:
        if self.gate.end_round is None or not all(task.finished for task in self.tasks):
            return False
        if self.discovery is not None and self.discovery.is_under_way:
            return False
        return all(edge.finished for edge in self.edges)

    # -- failure -----------------------------------------------------------------------

    def _fail(self, error: BaseException, task: Task) -> None:
        error.add_note(f"{task.where()}, on rank {self.waking.rank} of {self.waking.size}")
        self._note_failure(error)

    def _note_failure(self, error: BaseException) -> None:
        self.error = error
        self._failed_s = self._clock()
        self._drain()

    def _drain(self) -> None:
        for task in self.tasks:
            task.drain()
        if self.checkpoints is not None:
            self.checkpoints.abandon()

    def failed_too_long(self) -> bool:
        """Return whether this rank failed and the others did not answer in time."""
        if self._failed_s is None:
            return False
        return self._clock() - self._failed_s > self._abort_timeout_s

    # -- control -----------------------------------------------------------------------

    def _progress_control(self) -> bool:
        gate = self.gate
        if gate.is_closed or not gate.poll() or self._only_waits():
            return False
        for task in self._sources:
            if task.next_round < gate.boundary:
                return False
        cut_round = gate.boundary
        self.outcome = gate.pass_boundary(self._status())
        self._take_wakes()
        if self.outcome.busy:
            self._stay_busy(gate.boundary)
        within_s = CLOCK_US / 1e6 if self.outcome.clock_us else MOST_STRETCHED_S
        for pacer in self._pacers:
            pacer.closer.agree_after(gate.boundary - cut_round, within_s)
        if gate.end_round is not None:
            self._end_at(gate.end_round)
        else:
            self._begin_at(cut_round)
        if self.on_control is not None:
            self.on_control(self.outcome)
        if self.telemetry is not None:
            self.telemetry.at_control(self.outcome, is_last=gate.end_round is not None)
        return True

    def _begin_at(self, round_number: int) -> None:
        """Let what the ranks have agreed on be in force from a round on that none has begun."""
        if self.outcome.checkpoint and self.checkpoints is not None:
            self.checkpoints.begin(self.outcome, round_number, self.tasks)
        if self.outcome.splits and self.discovery is not None:
            self.discovery.begin()
        if self.gate.now_us > self._now_us:
            self._now_us = self.gate.now_us
            for task in self._clocked:
                task.set_clock(round_number, self._now_us)

    def _only_waits(self) -> bool:
        """Whether the next rounds, which nobody has rows for, are not in a hurry."""
        if self.outcome.has_input or not self.outcome.pending:
            return False
        return self._clock() - self._boundary_s < PENDING_ROUND_S

    def _end_at(self, end_round: int) -> None:
        if self.outcome.failed and self.error is None:
            self.failed_elsewhere = True
            self._drain()
        for task in self.tasks:
            task.end_round = end_round

    def _status(self) -> Status:
        now_s = self._clock()
        rounds = self.gate.boundary - self._boundary_round
        round_us = int(1e6 * (now_s - self._boundary_s) / rounds) if rounds > 0 else 0
        self._boundary_s, self._boundary_round = now_s, self.gate.boundary
        return Status(
            has_input=int(any(task.has_input for task in self._sources)),
            failed=int(self.error is not None),
            stop=self._stop_status(),
            checkpoint=0 if self.checkpoints is None else self.checkpoints.wanted(),
            unready=int(self.checkpoints is not None and self.checkpoints.is_unready),
            metrics_due=int(self.telemetry is not None and self.telemetry.is_due()),
            busy=int(any(task.pacer is None and task.has_input for task in self._sources)),
            splits=int(self.discovery is not None and self.discovery.has_news()),
            round_us=round_us,
            pending=int(any(task.has_pending for task in self.tasks)),
            clock_us=max(1, int(1e6 * self._time_of_day())) if self._clocked else 0,
        )

    def _stop_status(self) -> int:
        if self.stop.status or self.checkpoints is None:
            return self.stop.status
        return self.checkpoints.wants_stop

    # -- resting and waking ------------------------------------------------------------

    def _follow_the_busiest(self, has_moved: bool) -> None:
        if has_moved and self._pacers:
            busy_round = max((edge.busy_round for edge in self.edges), default=-1)
            if busy_round != self._busy_round:
                self._busy_round = busy_round
                self._stay_busy(busy_round)
        if len(self._pacers) > 1:
            self._follow_each_other()
        if self.is_quiet:
            self._take_wakes()
            self._look_in_a_pause()
            if self._stop_status() and self._may_tell():
                self.waking.wake_others()
                self._wake()

    def _may_tell(self) -> bool:
        """Whether others are to be woken for a request.

        Ranks without tasks are quiet for all that, and two of them would wake each other in
        every turn: they tell it once an interval.
        """
        told, self._told_boundary = self._told_boundary, self.gate.boundary
        return bool(self.tasks) or told != self.gate.boundary

    def _follow_each_other(self) -> None:
        """Have rows of one source, or a wake for one, be for all of this rank, and no longer.

        Sources are at other rounds than each other: two that woke each other would never sleep.
        """
        until = max(pacer.closer.awake_until for pacer in self._pacers)
        for pacer in self._pacers:
            pacer.closer.stay_awake(until)

    def _look_in_a_pause(self) -> None:
        for task in self._sources:
            if task.pacer is None or task.draining:
                continue
            try:
                task.pacer.look_in_a_pause()
                end_if_child()
            except (Exception, KeyboardInterrupt, SystemExit) as error:
                end_if_child(error)
                self._fail(error, task)

    @property
    def is_quiet(self) -> bool:
        """Whether no rank had rows in the last rounds, and none has failed."""
        return self.error is None and is_quiet(
            self.tasks, self._pacers, self.edges, self._awake_until
        )

    def _stay_busy(self, round_number: int) -> None:
        for pacer in self._pacers:
            pacer.closer.busy_in(round_number)

    def _take_wakes(self) -> None:
        """Receive wake messages; whoever is not asleep only takes them out of the way."""
        if self.waking.take():
            self._wake()

    def _wake(self) -> None:
        self._awake_until = max((t.next_round for t in self.tasks), default=-1) + BUSY_ROUNDS
        for pacer in self._pacers:
            if pacer.closer.is_stretched:
                pacer.closer.wake()

    def sleep_limit_s(self) -> float:
        """Return how long a driver may sleep at most when nothing moves."""
        return self.waking.sleep_limit_s(self._pacers, is_quiet=self.is_quiet)

    def sleep(self, seconds: float) -> bool:
        """Sleep, in a quiet job, until something comes; False if the time was over."""
        came = self.waking.sleep(seconds, self._pacers)
        if came:
            self.look_soon()
        return came

    def look_soon(self) -> None:
        """Ask live sources for rows in the next turn, however long they had none."""
        for pacer in self._pacers:
            pacer.look_soon()

    def round_due_s(self) -> float:
        """Return when the next round of each live source is due, by the clock."""
        return max((pacer.closer.due_s() for pacer in self._pacers), default=0.0)
