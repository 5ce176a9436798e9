"""Faults that a test injects into simulated ranks: failure, stall, death."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

from hpcstream.errors import HpcstreamError
from hpcstream.observability.result import JobResult
from hpcstream.runtime.job import JobRun
from hpcstream.runtime.tasks.task import Task


class InjectedFailure(HpcstreamError):
    """The default exception of `Fail`."""

    def __init__(self, message: str = "a test made this rank fail") -> None:
        super().__init__(message)


class RankKilled(HpcstreamError):
    """`Kill` ended a rank, and the others could not finish without it."""


@dataclass(frozen=True, kw_only=True)
class Fail:
    """A rank raises in the middle of a round, like a failing function of the user.

    Attributes
    ----------
    rank, round : int
    task : int
        Which of the rank's tasks, in the order of the plan; -1: the last.
    error : callable
        Returns the exception to raise.
    """

    rank: int
    round: int
    task: int = 0
    error: Callable[[], BaseException] = InjectedFailure


@dataclass(frozen=True, kw_only=True)
class Stall:
    """A rank pauses for some of its turns, from a given round on."""

    rank: int
    round: int
    turns: int


@dataclass(frozen=True, kw_only=True)
class Kill:
    """A rank dies silently at a given round."""

    rank: int
    round: int


Fault = Fail | Stall | Kill


class FaultyRank:
    """Steps one rank of a job and injects its faults. Never sleeps: it polls for rows.

    Parameters
    ----------
    run : JobRun
    faults : sequence of Fault
        Of this rank.
    moved : callable
        Notified of each turn of a stall, which is no deadlock.
    """

    def __init__(self, run: JobRun, faults: Sequence[Fault], moved: Callable[[], None]) -> None:
        self._run = run
        self._due = [fault for fault in faults if not isinstance(fault, Fail)]
        self._failing = [fault for fault in faults if isinstance(fault, Fail)]
        self._moved = moved

    def program(self) -> Generator[bool, None, JobResult]:
        """Yield whether anything moved, as `JobRun.run` does."""
        running = self._run.run()
        is_armed = False
        while True:
            if self._run.parts is not None:
                worker = self._run.parts.worker
                if not is_armed:  # before round 0
                    self._arm(worker.tasks)
                    is_armed = True
                worker.rest.look_soon()
                yield from self._happen(worker.tasks)
            try:
                moved = next(running)
            except StopIteration as stop:
                result: JobResult = stop.value
                return result
            yield moved

    def _arm(self, tasks: list[Task]) -> None:
        """Inject failures into the tasks."""
        for fault in self._failing:
            _fail_in_round(tasks[fault.task], fault)

    def _happen(self, tasks: list[Task]) -> Iterator[bool]:
        reached = max((task.next_round for task in tasks), default=0)
        for fault in [fault for fault in self._due if reached >= fault.round]:
            self._due.remove(fault)
            if isinstance(fault, Kill):
                raise RankKilled(f"rank {fault.rank} was killed in round {reached}")
            for _ in range(fault.turns if isinstance(fault, Stall) else 0):
                self._moved()
                yield False


def _fail_in_round(task: Task, fault: Fail) -> None:
    """Make the task raise after the first step of a round."""
    normal = task._round

    def failing() -> Iterator[bool]:
        steps = normal()
        if task.next_round == fault.round:
            yield from _first_of(steps)
            raise fault.error()
        yield from steps

    task._round = failing  # type: ignore[method-assign]


def _first_of(steps: Iterator[bool]) -> Iterator[bool]:
    for step in steps:
        yield step
        return
