"""Run a job on any number of simulated ranks in this process, reproducible from a seed."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from hpcstream.api.job import Job
from hpcstream.checkpoint.storage.background import InlineWriter, Outcome
from hpcstream.config import JobConfig
from hpcstream.exchange.communicator import Communicator
from hpcstream.observability.result import JobResult
from hpcstream.runtime.job import JobRun
from hpcstream.runtime.loop.worker import Clock, Worker
from hpcstream.runtime.run.context import RunContext
from hpcstream.runtime.sources.pacing import STRETCHED_S
from hpcstream.testing.clock import ManualClock
from hpcstream.testing.faults import Fault, FaultyRank
from hpcstream.testing.simulation import PATIENCE, Deadlock, Simulation, Turns

Build = Callable[[], Job | tuple[Job, Any]]
Wrap = Callable[[int, Communicator], Communicator]


@dataclass(frozen=True)
class RanksRun:
    """The result of `run_ranks`.

    Attributes
    ----------
    result : JobResult
        The same on every rank.
    handles : list
        The second values that ``build`` returned, one per rank.
    """

    result: JobResult
    handles: list[Any]

    @property
    def table(self) -> Any:
        """The table of rank 0's handle: what `Stream.collect` gathered."""
        return self.handles[0].table


class Ranks:
    """A job on simulated ranks that a test steps; see `start_ranks`.

    Attributes
    ----------
    clock : callable
        The clock of the job.
    handles : list
        The second values that ``build`` returned, one per rank.
    """

    def __init__(
        self, world: Simulation, runs: Sequence[JobRun], handles: list[Any], faults: Sequence[Fault]
    ) -> None:
        self.clock = runs[0].context.clock
        self.handles = handles
        self._world = world
        self._runs = runs
        programs: list[Generator[bool, None, JobResult]] = []
        for rank, run in enumerate(runs):
            own = [fault for fault in faults if fault.rank == rank]
            programs.append(FaultyRank(run, own, world.moved).program())
        self._turns = Turns(world, programs)

    # -- time and turns ----------------------------------------------------------------

    def settle(self) -> None:
        """Run the ranks until all of them wait for rows or for time to pass."""
        self._turns.settle()

    def advance(self, seconds: float) -> None:
        """Advance the clock, then `settle`; the clock must be a `ManualClock`."""
        clock = self.clock
        if not isinstance(clock, ManualClock):
            raise TypeError("advance(): start the ranks with clock=ManualClock()")
        clock.advance(seconds)
        self.settle()

    def close_round(self) -> None:
        """Make every live source close a round with its rows, and all ranks process it."""
        self.settle()
        due_s = max((worker.rest.round_due_s() for worker in self.workers), default=0.0)
        self.advance(1.01 * max(due_s - self.clock(), STRETCHED_S))

    def until(self, condition: Callable[[], bool], *, patience: int = PATIENCE) -> bool:
        """Run the ranks until ``condition``, or the end of the job.

        Returns
        -------
        bool
            Whether the condition holds.

        Raises
        ------
        Deadlock
            Nothing moved in ``patience`` turns of every rank.
        """
        return self._turns.until(condition, patience=patience)

    # -- looking in --------------------------------------------------------------------

    @property
    def workers(self) -> list[Worker]:
        """The workers, one a rank; there are none before the ranks have agreed on the plan."""
        return [run.parts.worker for run in self._runs if run.parts is not None]

    @property
    def rounds(self) -> list[int]:
        """For each rank, the rounds closed by its most advanced task."""
        return [max((t.next_round for t in worker.tasks), default=0) for worker in self.workers]

    @property
    def errors(self) -> dict[int, BaseException]:
        """The exception of each failed rank, by rank."""
        return self._turns.errors

    @property
    def waiting(self) -> list[int]:
        """Ranks that have not ended."""
        return self._turns.waiting

    @property
    def is_drained(self) -> bool:
        """Whether no message is in flight."""
        return self._world.is_drained

    # -- the end -----------------------------------------------------------------------

    def finish(self) -> RanksRun:
        """Run the ranks to the end of the job.

        Raises
        ------
        Deadlock
            The ranks wait for each other for ever, or left a message in flight.
        Exception
            The exception of the failing rank.
        """
        self.until(lambda: False)
        waiting = self.waiting
        self.close()
        if not waiting and not self.is_drained:
            raise Deadlock(f"the ranks ended, but under way is still: {self._world.describe()}")
        results = self._turns.finish()
        return RanksRun(results[0], self.handles)

    def close(self) -> None:
        """Abandon the ranks that have not ended."""
        self._turns.close()

    def __enter__(self) -> Ranks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType
    ) -> None:
        self.close()


def start_ranks(
    n_ranks: int,
    build: Build,
    *,
    seed: int = 0,
    max_delay: int = 0,
    clock: Clock = time.monotonic,
    faults: Sequence[Fault] = (),
    wrap: Wrap | None = None,
    **options: Any,
) -> Ranks:
    """Start a job on simulated ranks, to feed and advance it step by step.

    Parameters are those of `run_ranks`. Nothing runs before the first call of a
    method of what it returns; use that in a ``with`` statement.
    """
    config = JobConfig(**options)
    world = Simulation(n_ranks, seed=seed, max_delay=max_delay)
    time_of_day: Clock = time.time
    if isinstance(clock, ManualClock):
        world.on_turn = clock.end_turn
        time_of_day = clock
    built = [build() for _ in range(n_ranks)]
    pairs = [item if isinstance(item, tuple) else (item, None) for item in built]
    runs = []
    for rank, (job, _) in enumerate(pairs):
        comm = world.communicator(rank)
        comm = comm if wrap is None else wrap(rank, comm)
        context = RunContext(
            config,
            comm,
            clock,
            writer=InlineWriter(),
            begin_discovery=Outcome.run,
            time_of_day=time_of_day,
        )
        runs.append(JobRun(job.name, job._graph(), context))
    return Ranks(world, runs, [handle for _, handle in pairs], faults)


def run_ranks(
    n_ranks: int,
    build: Build,
    *,
    seed: int = 0,
    max_delay: int = 0,
    clock: Clock = time.monotonic,
    faults: Sequence[Fault] = (),
    wrap: Wrap | None = None,
    **options: Any,
) -> RanksRun:
    """Run a job on ``n_ranks`` ranks that take turns in this thread.

    Parameters
    ----------
    n_ranks : int
    build : callable
        Called once for each rank; returns a job, or a job and a handle, such as
        what ``collect()`` returned. Every call must build the same graph.
    seed : int
        Seed of the order of turns and of message delays.
    max_delay : int
        Most additional turns that a message may take.
    clock : callable
        Seconds, monotonic; ``ManualClock(turn_s=1e-5)`` runs live sources in
        virtual time, and is the time of day, too.
    faults : sequence of Fail, Stall or Kill
        Faults to inject.
    wrap : callable, optional
        ``wrap(rank, comm)`` may put faults between a rank and its messages.
    **options
        Fields of `JobConfig`.

    Raises
    ------
    Deadlock
        The ranks wait for each other for ever, or left a message in flight.
    Exception
        The exception of the failing rank.
    """
    ranks = start_ranks(
        n_ranks,
        build,
        seed=seed,
        max_delay=max_delay,
        clock=clock,
        faults=faults,
        wrap=wrap,
        **options,
    )
    with ranks:
        return ranks.finish()
