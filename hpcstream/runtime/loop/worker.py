"""The loop of one rank: edges, control, tasks, in this order, until the last round.

The only place that orders these. It is a generator: it yields whether anything
moved, so that a driver may wait (MPI) or run another rank (simulation).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence

from hpcstream.exchange.edges.base import Edge
from hpcstream.process.family import end_if_child
from hpcstream.runtime.control import ControlGate
from hpcstream.runtime.loop.control_rounds import ControlRounds
from hpcstream.runtime.loop.failure import FailureState
from hpcstream.runtime.loop.rest import Rest
from hpcstream.runtime.loop.services import Services
from hpcstream.runtime.loop.waking import Waking
from hpcstream.runtime.tasks.task import Task

Clock = Callable[[], float]


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
    services : Services

    Attributes
    ----------
    failure : FailureState
    rest : Rest
    control : ControlRounds
    exchange_ns : int
        Time spent on edges.
    at_work : Task or None
        The task that is in a step.
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
        *,
        services: Services | None = None,
    ) -> None:
        services = services or Services()
        self.tasks = list(tasks)
        self.edges = list(edges)
        self.gate = gate
        self.waking = waking
        self.exchange_ns = 0
        self.at_work: Task | None = None
        self.failure = FailureState(
            waking.rank, waking.size, self.tasks, services.checkpoints, clock, abort_timeout_s
        )
        self.rest = Rest(self.tasks, self.edges, waking, self.failure)
        self.control = ControlRounds(
            gate,
            self.tasks,
            services,
            self.rest,
            self.failure,
            clock,
            time_of_day,
        )
        self.services = services

    @property
    def rank(self) -> int:
        """The number of this rank."""
        return self.waking.rank

    # -- the loop ----------------------------------------------------------------------

    def run(self) -> Generator[bool, None, None]:
        """Run every round. Yields whether anything moved; raises nothing of the user's.

        Afterwards `failure` tells whether this rank or another one failed.
        """
        self.control.open()
        moved = False
        while not self._done():
            edges_moved = self._progress_edges()
            self._keep_pace(has_moved=moved or edges_moved)
            moved = edges_moved
            if self.control.progress():
                moved = True
            for task in self.tasks:
                if self._step(task):
                    moved = True
            if self._progress_services():
                moved = True
            if moved and self.services.telemetry is not None:
                self.services.telemetry.look()
            yield moved

    def _progress_edges(self) -> bool:
        before = time.perf_counter_ns()
        moved = False
        for edge in self.edges:
            if edge.progress():
                moved = True
        if moved and not self.failure.is_known and any(edge.abort_seen for edge in self.edges):
            self.failure.note_elsewhere()
        self.exchange_ns += time.perf_counter_ns() - before
        return moved

    def _keep_pace(self, *, has_moved: bool) -> None:
        rest = self.rest
        rest.follow_the_busiest(has_moved=has_moved)
        if rest.is_quiet:
            rest.look()
            if self.control.stop_status:
                rest.wake_all_at(self.gate.boundary)

    def _step(self, task: Task) -> bool:
        if self.control.holds(task):
            return False
        self.at_work = task
        try:
            if self.services.checkpoints is not None:
                self.services.checkpoints.copy_if_due(task)
            moved = task.step()
            end_if_child()
            self.at_work = None
            return moved
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            end_if_child(error)
            if task.draining:
                raise
            self.failure.note_task(error, task)
            return True

    def _progress_services(self) -> bool:
        """Continue checkpoints and the discovery of splits; return whether anything moved."""
        moved = False
        for service in (self.services.checkpoints, self.services.discovery):
            try:
                if service is not None and service.progress():
                    moved = True
            except Exception as error:
                if not self.failure.is_known:
                    self.failure.note(error)
                moved = True
        return moved

    def _done(self) -> bool:
        if self.gate.end_round is None or not all(task.finished for task in self.tasks):
            return False
        discovery = self.services.discovery
        if discovery is not None and discovery.is_under_way:
            return False
        return all(edge.finished for edge in self.edges)
