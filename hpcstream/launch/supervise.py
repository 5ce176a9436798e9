"""Runs a launcher, forwards signals to its ranks, and leaves no process behind.

::

    terminal, batch system --INT, TERM--> hpcstream run --stop--> launcher --> ranks
                                                                  (its own process group)

Launchers kill their ranks on INT and TERM; ranks that write a last checkpoint need time. So the
launcher has its own process group, which Ctrl-C at a terminal does not reach, and receives only the
signal that it forwards.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from hpcstream.launch.early_signals import STOP_SIGNALS
from hpcstream.launch.launcher_output import LauncherOutput
from hpcstream.launch.quirks import openmpi
from hpcstream.launch.quirks.missing_rank import (
    LOOK_EVERY_S,
    WAITED_FOR_S,
    MissingRank,
    has_ranks,
    has_started_mpi,
)
from hpcstream.log import complain
from hpcstream.process.launcher_facts import (
    MPICH,
    OPEN_MPI,
    adopt_orphans,
    parent_of,
    signal_on_parent_death,
)
from hpcstream.process.stop_signals import TRY_AGAIN

KILL_AFTER_S = 5.0
"""How long a job may take to end at once before it is killed."""

_ONE_REQUEST_S = 0.5


@dataclass(frozen=True)
class Ended:
    """How a job ended.

    Attributes
    ----------
    status : int
        Exit status, as a shell shows it.
    asked : bool
        Whether a signal had asked it to stop.
    """

    status: int
    asked: bool = False


def supervise(
    command: Sequence[str], environ: Mapping[str, str], mpi: str, *, is_launcher: bool = True
) -> Ended:
    """Run a launcher to its end and return how the job ended.

    The first INT, TERM, HUP or USR2 asks the ranks to stop; a further INT, or the same signal
    again, ends them at once, and so does the first before any rank has started MPI. Processes left
    when the launcher has ended are killed. Messages of the launcher about failed ranks are dropped
    if a rank has reported the reason.
    """
    adopt_orphans()
    # MPICH's launcher reports failed ranks on standard output.
    output = LauncherOutput((1, 2) if mpi == MPICH else (2,)) if is_launcher else None
    with _StopRequests(mpi) as requests:
        launcher = subprocess.Popen(
            command,
            env=dict(environ),
            stdin=subprocess.DEVNULL if sys.stdin is None or sys.stdin.isatty() else None,
            stdout=output.writing(1) if output else None,
            stderr=output.writing(2) if output else None,
            process_group=0,
            preexec_fn=lambda: _before_start(environ, mpi),
        )
        early = MissingRank(
            launcher.pid, is_watching=mpi != OPEN_MPI
        )  # Open MPI ends the job itself
        with _guarded(launcher.pid):
            if output:
                output.start()
            requests.begin(launcher)
            try:
                returned = _wait(launcher, requests, early)
            finally:
                kill_descendants()
                launcher.wait()
                if output:
                    output.end(show_held=not requests.has_any)
                if mpi == OPEN_MPI:
                    openmpi.remove_session(launcher.pid, environ)
        return requests.outcome(_by_signal(returned, output))


def _by_signal(returned: int, output: LauncherOutput | None) -> int:
    """Return the exit status of a launcher; 128 + number if a signal ended a rank."""
    if output and returned == output.signal_number:  # MPICH returns the bare number
        return 128 + returned if returned else 0
    return returned


class _StopRequests:
    """The signals that asked a job to stop; a context in which they are handled."""

    def __init__(self, mpi: str) -> None:
        self._launcher: subprocess.Popen[bytes] | None = None
        # Open MPI's launcher forwards USR2, but kills on TERM; MPICH's does the reverse.
        self._stop_signal = signal.SIGTERM if mpi == MPICH else signal.SIGUSR2
        self._received: list[int] = []
        self._received_s = 0.0
        self._replaced: dict[int, object] = {}
        self.kill_at: float | None = None

    @property
    def has_any(self) -> bool:
        """Whether a signal has asked the job to stop."""
        return bool(self._received)

    def begin(self, launcher: subprocess.Popen[bytes]) -> None:
        """Forward signals to a launcher, including those that arrived before it started."""
        self._launcher = launcher
        if self._received:
            self.end_at_once()

    def end_at_once(self) -> None:
        """Signal the launcher to end its ranks; they are killed if that takes long."""
        wait_s = KILL_AFTER_S if self.kill_at is None else 0.0
        self.kill_at = time.monotonic() + wait_s
        if self._launcher is not None:
            self._launcher.send_signal(signal.SIGTERM)

    def __enter__(self) -> _StopRequests:
        for number in (*STOP_SIGNALS, signal.SIGUSR1):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a background job
                self._replaced[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._replaced.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def outcome(self, returned: int) -> Ended:
        """Return how the job ended, from what the launcher returned."""
        return Ended(self._exit_status(returned), bool(self._received))

    def _exit_status(self, returned: int) -> int:
        status = 128 - returned if returned < 0 else returned
        if not self._received or status == 0:
            return status
        first = self._received[0]
        if first == signal.SIGINT or self.kill_at is not None:
            return 128 + first
        return status if status in (1, TRY_AGAIN) else 128 + first

    def _receive(self, number: int, frame: FrameType | None) -> None:
        launcher, now_s = self._launcher, time.monotonic()
        if number == signal.SIGUSR1:
            if launcher is not None:
                launcher.send_signal(signal.SIGUSR1)
            return
        # Some senders signal both a process and its group: that is one request.
        again = number == signal.SIGINT or now_s - self._received_s > _ONE_REQUEST_S
        is_second = self.has_any and again and number in (signal.SIGINT, *self._received)
        is_first = not self.has_any
        self._received.append(number)
        self._received_s = now_s
        if is_first and launcher is not None:
            launcher.send_signal(self._stop_signal)
        elif is_second:
            self.end_at_once()


def _wait(launcher: subprocess.Popen[bytes], requests: _StopRequests, early: MissingRank) -> int:
    """Return the status of the launcher; 1 if it was stuck and had to be killed."""
    stuck = openmpi.StuckLauncher(
        lambda: bool(descendants(launcher.pid)), lambda: has_ranks(launcher.pid)
    )
    asked = False
    while True:
        try:
            often = early.is_watching
            return launcher.wait(timeout=LOOK_EVERY_S if often else stuck.look_every_s())
        except subprocess.TimeoutExpired:
            if early.look():
                _end_waiting(launcher)
                return 1
            if requests.has_any and not asked:
                asked = True
                if not has_started_mpi(launcher.pid):  # no state to save yet
                    requests.end_at_once()
            if requests.kill_at is not None and time.monotonic() > requests.kill_at:
                kill_descendants()
            if stuck.is_stuck():
                _end_stuck(launcher)
                return 128 + signal.SIGKILL if requests.has_any else 1


def _end_waiting(launcher: subprocess.Popen[bytes]) -> None:
    """End ranks that wait for a missing rank."""
    complain(
        "a rank ended before it started MPI, and others have waited there for "
        f"{WAITED_FOR_S:g} s: ending all ranks; the output of that rank may tell why"
    )
    kill_descendants()
    launcher.wait()


def _end_stuck(launcher: subprocess.Popen[bytes]) -> None:
    """Kill a launcher that hangs after all its ranks have ended."""
    complain(
        f"all ranks ended, but {launcher.args[0]!r} (process {launcher.pid}) has not "  # type: ignore[index]
        f"for {openmpi.STUCK_AFTER_S:g} s or more: killed it; whether the job succeeded is "
        "unknown"
    )
    launcher.kill()
    launcher.wait()


def descendants(root: int) -> list[int]:
    """Return the living descendants of a process, nearest first (Linux)."""
    children: dict[int, list[int]] = {}
    for pid, parent in _living_processes():
        children.setdefault(parent, []).append(pid)
    found = list(children.get(root, []))
    for pid in found:  # grows while it is read
        found += children.get(pid, [])
    return found


def kill_tree(root: int) -> None:
    """Kill a process and its descendants. The caller reaps the root."""
    _kill([root, *descendants(root)])


def kill_descendants(seconds: float = 5.0) -> None:
    """Kill all descendants of this process, and wait until they are gone."""
    give_up = time.monotonic() + seconds
    while (pids := descendants(os.getpid())) and time.monotonic() < give_up:
        _kill(pids)
        time.sleep(0.01)


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _living_processes() -> Iterator[tuple[int, int]]:
    """Yield each process that is not a zombie, with its parent."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (parent := parent_of(int(entry.name))) is not None:
            yield int(entry.name), parent


@contextlib.contextmanager
def _guarded(launcher: int) -> Iterator[None]:
    """Fork a guard that kills the job if this process is killed.

    The launcher is signalled as well (`_before_start`), but MPICH's then waits for its ranks.
    """
    its_end, our_end = os.pipe()
    guard = os.fork()
    if guard == 0:
        try:
            os.setsid()
            os.close(our_end)
            os.read(its_end, 1)  # returns when this process is gone
            kill_tree(launcher)
        finally:
            os._exit(0)
    os.close(its_end)
    try:
        yield
    finally:
        _kill([guard])
        os.waitpid(guard, 0)
        os.close(our_end)


def _before_start(environ: Mapping[str, str], mpi: str) -> None:
    """Prepare the process of the launcher: it ends if this process is killed."""
    signal_on_parent_death(signal.SIGTERM)
    if mpi == OPEN_MPI:
        openmpi.remove_session(os.getpid(), environ)
