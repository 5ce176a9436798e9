"""Takes part in control rounds on one rank, and lets their outcomes take effect there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hpcstream.runtime.control import CLOCK_US, ControlGate, Status
from hpcstream.runtime.loop.failure import FailureState
from hpcstream.runtime.loop.rest import Rest
from hpcstream.runtime.loop.services import Services
from hpcstream.runtime.sources.pacing import MOST_STRETCHED_S
from hpcstream.runtime.tasks.source_task import SourceTask
from hpcstream.runtime.tasks.task import Task

PENDING_ROUND_S = 0.005
"""Time between rounds in which operators only wait for later results."""


class ControlRounds:
    """Reports the status of this rank, and does what the ranks agree on.

    Parameters
    ----------
    gate : ControlGate
    tasks : list of Task
    services : Services
    rest : Rest
    failure : FailureState
    clock : callable
        Seconds, monotonic.
    time_of_day : callable
        Seconds since the epoch.

    Attributes
    ----------
    outcome : Status
        The last one that took effect.
    """

    def __init__(
        self,
        gate: ControlGate,
        tasks: Sequence[Task],
        services: Services,
        rest: Rest,
        failure: FailureState,
        clock: Callable[[], float],
        time_of_day: Callable[[], float],
    ) -> None:
        self.gate = gate
        self.outcome = Status()
        self._tasks = tasks
        self._sources = [task for task in tasks if isinstance(task, SourceTask)]
        self._clocked = [task for task in tasks if task.chain.clocked]
        self._services = services
        self._rest = rest
        self._failure = failure
        self._stop = services.stop
        self._clock = clock
        self._time_of_day = time_of_day
        self._now_us = 0
        self._boundary_s = clock()
        self._boundary_round = 0
        self._holds_tasks = services.checkpoints is not None or bool(self._clocked)

    def open(self) -> None:
        """Post the first status. Collective."""
        self.gate.open(self._status())

    @property
    def stop_status(self) -> int:
        """The exit status that this rank wants to stop with; 0: none."""
        checkpoints = self._services.checkpoints
        if self._stop.status or checkpoints is None:
            return self._stop.status
        return checkpoints.schedule.wants_stop

    def holds(self, task: Task) -> bool:
        """Whether this rank does not know yet what takes effect at the task's next round.

        A checkpoint may begin with it, or another time of day.
        """
        gate = self.gate
        return (
            self._holds_tasks
            and gate.end_round is None
            and task.is_between_rounds
            and not gate.may_start(task.next_round)
        )

    def progress(self) -> bool:
        """Let the next outcome take effect once it is in; return whether it did."""
        gate = self.gate
        if gate.is_closed or not gate.poll() or self._only_waits():
            return False
        for task in self._sources:
            if task.next_round < gate.boundary:
                return False
        first_round = gate.boundary
        self.outcome = gate.pass_boundary(self._status())
        self._rest.take_wakes()
        if self.outcome.busy:
            self._rest.stay_busy(gate.boundary)
        within_s = CLOCK_US / 1e6 if self.outcome.clock_us else MOST_STRETCHED_S
        self._rest.agree_after(gate.boundary - first_round, within_s)
        if gate.end_round is not None:
            self._end_at(gate.end_round)
        else:
            self._begin_at(first_round)
        if self._services.telemetry is not None:
            self._services.telemetry.at_control(self.outcome, is_last=gate.end_round is not None)
        return True

    def _only_waits(self) -> bool:
        """Whether the next rounds, which no source has rows for, are not urgent."""
        if self.outcome.has_input or not self.outcome.pending:
            return False
        return self._clock() - self._boundary_s < PENDING_ROUND_S

    def _begin_at(self, round_number: int) -> None:
        """Begin what the ranks have agreed on at a round that no task has begun."""
        if self.outcome.checkpoint and self._services.checkpoints is not None:
            self._services.checkpoints.begin(self.outcome, round_number)
        if self.outcome.splits and self._services.discovery is not None:
            self._services.discovery.begin()
        if self.gate.now_us > self._now_us:
            self._now_us = self.gate.now_us
            for task in self._clocked:
                task.set_clock(round_number, self._now_us)

    def _end_at(self, end_round: int) -> None:
        if self.outcome.failed and self._failure.error is None:
            self._failure.note_elsewhere()
        for task in self._tasks:
            task.end_at(end_round)

    def _status(self) -> Status:
        now_s = self._clock()
        rounds = self.gate.boundary - self._boundary_round
        round_us = int(1e6 * (now_s - self._boundary_s) / rounds) if rounds > 0 else 0
        self._boundary_s, self._boundary_round = now_s, self.gate.boundary
        telemetry, discovery = self._services.telemetry, self._services.discovery
        checkpoints = self._services.checkpoints
        return Status(
            has_input=int(any(task.has_input for task in self._sources)),
            failed=int(self._failure.error is not None),
            stop=self.stop_status,
            checkpoint=0 if checkpoints is None else checkpoints.wanted(),
            unready=int(checkpoints is not None and checkpoints.is_unready),
            metrics_due=int(telemetry is not None and telemetry.is_due()),
            busy=int(any(task.pacer is None and task.has_input for task in self._sources)),
            splits=int(discovery is not None and discovery.has_news()),
            round_us=round_us,
            pending=int(any(task.has_pending for task in self._tasks)),
            clock_us=max(1, int(1e6 * self._time_of_day())) if self._clocked else 0,
        )
