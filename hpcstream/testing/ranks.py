"""Run a job on any number of ranks inside this process, deterministic by seed."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from hpcstream.api.job import Job
from hpcstream.config import JobConfig
from hpcstream.exchange.communicator import Communicator
from hpcstream.observability.metrics import JobResult
from hpcstream.runtime.job import JobRun
from hpcstream.testing.simulation import Simulation

Build = Callable[[], Job | tuple[Job, Any]]


@dataclass(frozen=True)
class RanksRun:
    """What `run_ranks` returns.

    Attributes
    ----------
    result : JobResult
        The same on every rank.
    handles : list
        What ``build`` returned beside the job, one a rank.
    """

    result: JobResult
    handles: list[Any]

    @property
    def table(self) -> Any:
        """The table of rank 0's handle: what `Stream.collect` gathered."""
        return self.handles[0].table


def run_ranks(
    n_ranks: int,
    build: Build,
    *,
    seed: int = 0,
    max_delay: int = 0,
    wrap: Callable[[int, Communicator], Communicator] | None = None,
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
        Of the order in which ranks take turns, and of message delays.
    max_delay : int
        How many turns a message may take longer than it must.
    wrap : callable, optional
        ``wrap(rank, comm)`` may put faults between a rank and its messages.
    **options
        Fields of `JobConfig`.

    Raises
    ------
    Deadlock
        The ranks wait for each other for ever.
    Exception
        What the failing rank raised.
    """
    config = JobConfig(**options)
    world = Simulation(n_ranks, seed=seed, max_delay=max_delay)
    built = [build() for _ in range(n_ranks)]
    pairs = [one if isinstance(one, tuple) else (one, None) for one in built]

    def program(rank: int) -> Generator[bool, None, JobResult]:
        comm = world.communicator(rank)
        if wrap is not None:
            comm = wrap(rank, comm)
        job = pairs[rank][0]
        return JobRun(job.name, job._graph(), config, comm).run()

    results = world.run([program(rank) for rank in range(n_ranks)])
    return RanksRun(results[0], [handle for _, handle in pairs])
