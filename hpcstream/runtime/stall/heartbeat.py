"""Watches the turns of this rank, and exchanges beats with other ranks when nothing moves."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import replace

from hpcstream.errors import StallError
from hpcstream.exchange.communicator import Communicator, Procedure, gather_bytes
from hpcstream.log import say, show_traceback, warn
from hpcstream.runtime.stall.diagnosis import WaitReason
from hpcstream.runtime.stall.monitor import Beat, StallMonitor

LOOK_EVERY_S = 0.05

Clock = Callable[[], float]


def process_names(comm: Communicator) -> Procedure[list[str]]:
    """Return the process and host of each rank: ``"4711 on node3"``. Collective."""
    own = f"{os.getpid()} on {socket.gethostname()}"
    names = yield from gather_bytes(comm, own.encode(errors="replace"))
    return [name.decode() for name in names]


class Heartbeat:
    """The stall monitor of one rank, on its communicator.

    Parameters
    ----------
    comm : Communicator
        Nothing else uses its notes.
    clock : callable
        Seconds, monotonic.
    monitor : StallMonitor
    doing : callable
        ``doing(stalled)`` returns what this rank waits for or works on.
    """

    def __init__(
        self,
        comm: Communicator,
        clock: Clock,
        monitor: StallMonitor,
        doing: Callable[[bool], WaitReason],
    ) -> None:
        self._comm = comm
        self._clock = clock
        self.monitor = monitor
        self._doing = doing
        self._look_s = clock()
        self._moved = True

    def turn(self, moved: bool) -> bool:
        """Note a turn of the loop; return True a few times a second, after a look at the notes."""
        if moved:
            self._moved = True
        now_s = self._clock()
        if now_s < self._look_s:
            return False
        self._look_s = now_s + LOOK_EVERY_S
        self._look(now_s)
        return True

    def _look(self, now_s: float) -> None:
        monitor = self.monitor
        text = monitor.look(now_s, moved=self._moved)
        if text is not None:
            say(text)
        self._moved = False
        for _, note in self._comm.take_notes():
            monitor.hear(Beat.from_bytes(note), now_s)
        recipients = monitor.recipients(now_s)
        if recipients:
            self._send(self._beat(), recipients)
        if monitor.is_stalled:
            text = monitor.verdict(self._beat(), now_s)
            if text is not None:
                warn(text)
                self._send(
                    self._beat(), self._others()
                )  # else they would warn before the next beat
            if monitor.is_over(now_s):
                self._end()

    def is_dead(self, for_s: float) -> bool:
        """Whether nothing has moved here for so long, and no rank reports that it works."""
        return self.monitor.quiet_s > for_s and not self.monitor.works_elsewhere(self._clock())

    def _others(self) -> list[int]:
        return [rank for rank in range(self._comm.size) if rank != self._comm.rank]

    def _send(self, beat: Beat, recipients: Iterable[int]) -> None:
        note = beat.to_bytes()
        for rank in recipients:
            self._comm.send_note(rank, note)

    def _beat(self) -> Beat:
        stalled = self.monitor.is_stalled
        wait = self._doing(stalled)
        return Beat(self._comm.rank, stalled, wait.what, wait.ranks, self.monitor.spoken)

    def _end(self) -> None:
        """End the job; say so unless another rank did: launchers may take seconds to end all."""
        if not self.monitor.end_is_announced:
            self._announce_end()
        self._comm.abort(1)

    def _announce_end(self) -> None:
        beat = replace(self._beat(), ending=True)
        self._send(beat, self._others())
        error = StallError(
            f"nothing has moved for {self.monitor.quiet_s:.0f} s and {self._why()}; rank "
            f"{self._comm.rank} waited for {beat.doing}"
        )
        show_traceback(error)

    def _why(self) -> str:
        lost = self.monitor.lost_hosts(self._clock())
        return f"no rank of {', '.join(lost)} answers" if lost else "stall_timeout_s is set"
