"""When one rank rests, and how it follows the others out of a pause.

A job is *quiet* while no rank had rows in the last rounds. All ranks follow the busiest:
the rounds of all live sources stretch in a pause, and are short again once any rank has rows.
"""

from __future__ import annotations

from collections.abc import Sequence

from hpcstream.exchange.edges.base import Edge
from hpcstream.process.family import end_if_child
from hpcstream.runtime.loop.failure import FailureState
from hpcstream.runtime.loop.waking import Waking, is_quiet
from hpcstream.runtime.sources.pacing import BUSY_ROUNDS
from hpcstream.runtime.tasks.source_task import SourceTask
from hpcstream.runtime.tasks.task import Task


class Rest:
    """Keeps the live sources of one rank in step with the busiest rank, and lets it sleep.

    Parameters
    ----------
    tasks : list of Task
    edges : list of Edge
    waking : Waking
    failure : FailureState
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        edges: Sequence[Edge],
        waking: Waking,
        failure: FailureState,
    ) -> None:
        sources = [task for task in tasks if isinstance(task, SourceTask)]
        self._tasks = tasks
        self._edges = edges
        self._waking = waking
        self._failure = failure
        self._live = [(task, task.pacer) for task in sources if task.pacer is not None]
        self._pacers = [pacer for _, pacer in self._live]
        self._busy_round = -1
        self._woken_boundary = -1
        self._awake_until = -1

    # -- following the busiest ---------------------------------------------------------

    def follow_the_busiest(self, *, has_moved: bool) -> None:
        """Keep sources busy while any rank had rows in the last rounds; in each turn."""
        if has_moved and self._pacers:
            busy_round = max((edge.busy_round for edge in self._edges), default=-1)
            if busy_round != self._busy_round:
                self._busy_round = busy_round
                self.stay_busy(busy_round)
        if len(self._pacers) > 1:
            self._follow_each_other()

    def _follow_each_other(self) -> None:
        """Keep all sources of this rank awake as long as one of them is, and no longer.

        Sources are at other rounds than each other: two that woke each other would never sleep.
        """
        until = max(pacer.closer.awake_until for pacer in self._pacers)
        for pacer in self._pacers:
            pacer.closer.stay_awake(until)

    def stay_busy(self, round_number: int) -> None:
        """Note that some rank had rows in this round."""
        for pacer in self._pacers:
            pacer.closer.busy_in(round_number)

    def agree_after(self, n_rounds: int, within_s: float) -> None:
        """Note after how many rounds the ranks agree again, and within what time."""
        for pacer in self._pacers:
            pacer.closer.agree_after(n_rounds, within_s)

    # -- in a pause --------------------------------------------------------------------

    @property
    def is_quiet(self) -> bool:
        """Whether no rank had rows in the last rounds, and none has failed."""
        return self._failure.error is None and is_quiet(
            self._tasks, self._pacers, self._edges, self._awake_until
        )

    def look(self) -> None:
        """Take wake messages, and ask sources for rows that are to be asked in a pause."""
        self.take_wakes()
        for task, pacer in self._live:
            if task.draining:
                continue
            try:
                pacer.look_in_a_pause()
                end_if_child()
            except (Exception, KeyboardInterrupt, SystemExit) as error:
                end_if_child(error)
                self._failure.note_task(error, task)

    def wake_all_at(self, boundary: int) -> None:
        """Wake all ranks for a request, before the control round of this boundary.

        Ranks without tasks are quiet even so, and two of them would wake each other in every
        turn: they do it once an interval.
        """
        last, self._woken_boundary = self._woken_boundary, boundary
        if self._tasks or last != boundary:
            self._waking.wake_others()
            self.wake()

    def take_wakes(self) -> None:
        """Receive wake messages; a rank that is awake only removes them."""
        if self._waking.take():
            self.wake()

    def wake(self) -> None:
        """End the pause on this rank."""
        reached = max((task.next_round for task in self._tasks), default=-1)
        self._awake_until = reached + BUSY_ROUNDS
        for pacer in self._pacers:
            if pacer.closer.is_stretched:
                pacer.closer.wake()

    # -- sleeping ----------------------------------------------------------------------

    def sleep_limit_s(self) -> float:
        """Return how long a driver may sleep at most when nothing moves."""
        return self._waking.sleep_limit_s(self._pacers, is_quiet=self.is_quiet)

    def sleep(self, seconds: float) -> bool:
        """Sleep in a quiet job until something comes; False after all of the time."""
        came = self._waking.sleep(seconds, self._pacers)
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
