"""Decides how long a rank may sleep, and wakes other ranks.

A job is *quiet* while no rank had rows in the last rounds. A rank of a quiet job sleeps
until one of its sources is to be polled or a round is due. It wakes earlier when a
source's descriptor can be read or another rank rings: a rank that gets rows after a pause
wakes all others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hpcstream.exchange.communicator import Communicator
from hpcstream.exchange.doorbell import Doorbell
from hpcstream.exchange.edges.base import Edge
from hpcstream.runtime.sources.pacing import BUSY_ROUNDS, Pacer
from hpcstream.runtime.tasks.source_task import SourceTask
from hpcstream.runtime.tasks.task import Task

IDLE_SLEEP_S = 0.001
"""Longest sleep of a rank of a busy job."""
QUIET_SLEEP_S = 0.050
"""Longest sleep of a rank of a quiet job: it looks for beats of other ranks so often."""
FAR_SLEEP_S = 0.005
"""The same with ranks on other hosts, which cannot ring when they have sent a message."""

Clock = Callable[[], float]


class Waking:
    """Wakes the other ranks, is woken by them, and puts this one to sleep.

    Parameters
    ----------
    comm : Communicator
        For wake messages; nothing else.
    bell : Doorbell
        Wakes ranks of this host out of their sleep.
    clock : callable
        Seconds, monotonic.
    """

    def __init__(self, comm: Communicator, bell: Doorbell, clock: Clock) -> None:
        self.bell = bell
        self.rank = comm.rank
        self.size = comm.size
        self._comm = comm
        self._clock = clock

    def wake_others(self) -> None:
        """Wake every other rank."""
        for rank in range(self.size):
            if rank != self.rank:
                self._comm.send_wake(rank)
        self.bell.ring()

    def take(self) -> bool:
        """Return whether another rank woke this one since the last call."""
        return self._comm.take_wake()

    def sleep_limit_s(self, pacers: Sequence[Pacer], *, is_quiet: bool) -> float:
        """Return how long this rank may sleep; ``pacers`` of its live sources."""
        most_s = IDLE_SLEEP_S
        if is_quiet:
            most_s = QUIET_SLEEP_S if self.bell.reaches_all else FAR_SLEEP_S
        if not pacers:
            return most_s
        due_s = min(pacer.due_s() for pacer in pacers)
        return max(0.0, min(most_s, due_s - self._clock()))

    def sleep(self, seconds: float, pacers: Sequence[Pacer]) -> bool:
        """Sleep until another rank rings or a source has rows; False after all of the time."""
        descriptors = [number for pacer in pacers for number in pacer.descriptors]
        return self.bell.wait(seconds, descriptors)


def is_quiet(
    tasks: Sequence[Task], pacers: Sequence[Pacer], edges: Sequence[Edge], awake_until: int
) -> bool:
    """Return whether no rank had rows in the last rounds, as far as this one knows.

    A rank without sources judges by the rounds of its edges, and is awake until
    ``awake_until`` if it was woken; a rank without tasks is always quiet.
    """
    if pacers:
        return all(pacer.closer.is_stretched for pacer in pacers)
    if any(isinstance(task, SourceTask) for task in tasks):
        return False
    busy_until = max((edge.busy_round for edge in edges), default=-1) + BUSY_ROUNDS
    return all(task.next_round > max(busy_until, awake_until) for task in tasks)
