"""What a rank is doing, for the driver, for other ranks and for people, while nothing moves."""

from __future__ import annotations

from collections.abc import Sequence

from hpcstream.environment import LOST_HOST, seconds_of
from hpcstream.graph.physical import PhysicalGraph
from hpcstream.log import complain
from hpcstream.runtime.loop.waking import IDLE_SLEEP_S
from hpcstream.runtime.run.context import RunContext
from hpcstream.runtime.run.parts import RankParts
from hpcstream.runtime.stall.diagnosis import WaitReason, current_work, diagnose
from hpcstream.runtime.stall.heartbeat import Heartbeat
from hpcstream.runtime.stall.monitor import StallMonitor

OTHERS_FIRST_S = 3.0
"""How much longer ranks that wait for another one take to end the job: that one can say why."""

_ROUNDS = "running rounds"


class RunWatch:
    """Watches the turns of one rank, from the plan to the end.

    Parameters
    ----------
    context : RunContext
    """

    def __init__(self, context: RunContext) -> None:
        comm = context.comm
        self._context = context
        self._stage = "making the plan"
        self._parts: RankParts | None = None
        self._graph: PhysicalGraph | None = None
        lost_host_s = seconds_of(LOST_HOST, float("inf"))
        timeout_s = context.config.stall_timeout_s
        self._monitor = StallMonitor(comm.rank, comm.size, timeout_s, lost_host_s)
        self._heartbeat = Heartbeat(comm, context.clock, self._monitor, self._doing)

    # -- the stages of a run -----------------------------------------------------------

    def enter(self, stage: str) -> None:
        """Note what the rank does from now on, in words."""
        self._stage = stage

    def enter_rounds(self, parts: RankParts, graph: PhysicalGraph) -> None:
        """Note that the rank runs rounds from now on."""
        self._parts, self._graph = parts, graph
        self.enter(_ROUNDS)

    def know_processes(self, processes: Sequence[str]) -> None:
        """Note the process and host of each rank."""
        self._monitor.know_processes(processes)

    # -- in each turn ------------------------------------------------------------------

    def turn(self, *, moved: bool) -> None:
        """Note a turn of the driver; look after the rank a few times a second."""
        if not self._heartbeat.turn(moved):
            return
        stop, limit_s = self._context.stop, self._context.config.stop_grace_s + OTHERS_FIRST_S
        stop.note_turn()
        if stop.unanswered_s() > limit_s and self._heartbeat.is_dead(limit_s):
            comm = self._context.comm
            complain(
                f"asked to stop, the ranks gave no answer for {limit_s:.0f} s: rank "
                f"{comm.rank} waited for {self._doing(True).what}; ending all ranks"
            )
            comm.abort(stop.status)
        if self._parts is not None:
            self._parts.telemetry.poll()

    @property
    def is_quiet(self) -> bool:
        """Whether rounds are running, and no rank had rows in the last ones."""
        parts = self._parts
        return self._stage == _ROUNDS and parts is not None and parts.worker.rest.is_quiet

    def sleep_limit_s(self) -> float:
        """Return how long this rank may sleep."""
        return IDLE_SLEEP_S if self._parts is None else self._parts.worker.rest.sleep_limit_s()

    def sleep(self, seconds: float) -> bool:
        """Sleep until something comes for this rank; False after all of the time."""
        assert self._parts is not None, "a job is quiet only once it runs"
        return self._parts.worker.rest.sleep(seconds)

    def doing(self) -> str:
        """Return what this rank works on, in words; may be asked in another thread."""
        return self._doing(False).what

    def _doing(self, stalled: bool) -> WaitReason:
        """Return what this rank waits for, or works on, for the ranks that ask."""
        if self._stage != _ROUNDS or self._parts is None or self._graph is None:
            return WaitReason(f"the other ranks, while {self._stage}" if stalled else self._stage)
        worker = self._parts.worker
        return diagnose(worker, self._graph) if stalled else WaitReason(current_work(worker))
