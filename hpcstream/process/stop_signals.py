"""Requests to stop: signals, and the time limit of a batch job, ask for a last checkpoint.

TERM and USR2 (which batch systems send before the limit) end the job with exit status 75, "try
again"; INT with 130. A second signal ends the process at once. Without checkpoints nothing is
kept, and the statuses are 143 and 130.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

from hpcstream.errors import JobStopped
from hpcstream.log import complain, flush, warn
from hpcstream.process import family, grace

TRY_AGAIN = 75
INTERRUPTED = 130
TERMINATED = 143

_SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)
GRACE_S = 25.0
"""How long the loop of a rank may not turn after a request: Slurm kills after 30 s."""

_MARGIN_S = 60.0
_LARGEST_SHARE = 0.1  # of the time left at the start
_LARGEST_GRACE = 0.75  # of the margin
_LEAST_GRACE_S = 5.0  # of a job that starts after its time limit


class StopRequest(Protocol):
    """Whether this rank was asked to stop."""

    @property
    def status(self) -> int:
        """Exit status to stop with; 0: no request."""

    def note_turn(self) -> None:
        """Record a turn of the loop of this rank; called some times a second."""

    def answer(self) -> None:
        """Record that the ranks have stopped; the rest has no time limit."""

    def unanswered_s(self) -> float:
        """Return the age of the request if the ranks have not stopped, else 0."""


@dataclass
class AskedToStop:
    """A request made by the program itself."""

    status: int = 0

    def note_turn(self) -> None:
        """Do nothing: no grace time runs."""

    def answer(self) -> None:
        """Do nothing: no grace time runs."""

    def unanswered_s(self) -> float:
        """Return 0: no grace time runs."""
        return 0.0


class Deadline:
    """A request that arises shortly before the time limit of a batch job.

    Parameters
    ----------
    end_s : float
        The time limit, in seconds since the epoch.
    now_s : float
    """

    def __init__(self, end_s: float, now_s: float) -> None:
        self.status = 0
        margin_s = min(_MARGIN_S, _LARGEST_SHARE * max(end_s - now_s, 0.0))
        self.stop_at_s = end_s - margin_s
        self.grace_s = max(_LARGEST_GRACE * margin_s, _LEAST_GRACE_S)
        """How long a rank may be unresponsive, so that the job ends before its limit."""

    def look(self, now_s: float) -> None:
        """Make the request if it is due."""
        if not self.status and now_s >= self.stop_at_s:
            self.status = TRY_AGAIN


class SignalledStop:
    """Turns signals into a request; a context, in the main thread only.

    The context installs the handlers and restores the previous ones. The process is aborted if
    the rank does not respond within the grace time (`hpcstream.process.grace`).

    Parameters
    ----------
    has_checkpoints : bool
    environ : mapping
        With ``SLURM_JOB_END_TIME``: stop shortly before that time.
    grace_s : float
        How long the loop of this rank may not turn after a request.
    rank : int
    abort : callable
        Ends all ranks with an exit status.
    is_interactive : bool
        Whether the process is an interactive session: interrupt the function instead.
    """

    def __init__(
        self,
        *,
        has_checkpoints: bool,
        environ: Mapping[str, str] = os.environ,
        grace_s: float = GRACE_S,
        rank: int = 0,
        abort: Callable[[int], object] = os._exit,
        is_interactive: bool = False,
    ) -> None:
        self._has_checkpoints = has_checkpoints
        self._grace_s = grace_s
        self._rank = rank
        self._abort = abort
        self._is_interactive = is_interactive
        self.doing: Callable[[], str] = str
        self._replaced: dict[int, object] = {}
        self._signalled = 0
        self._asked_s: float | None = None
        self._turned_s = 0.0
        self._answered = False
        self._received: list[int] = []
        self._interrupts = False
        self._raises = False
        end = environ.get("SLURM_JOB_END_TIME", "")
        self._deadline = None
        if has_checkpoints and end.isdecimal():
            self._deadline = Deadline(float(end), time.time())
        self._watch = grace.Watch(self, lambda: self.doing())

    def __enter__(self) -> SignalledStop:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._replaced[number] = signal.signal(number, self._receive)
            family.handle_signals(tuple(self._replaced), self._put_back_in_child)
        self._watch.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._watch.__exit__(*error)
        if self._replaced:
            family.handle_signals((), None)
        self._put_back()

    def _put_back(self) -> None:
        for number, handler in self._replaced.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._replaced = {}

    def _put_back_in_child(self) -> None:
        signal.set_wakeup_fd(-1)  # the pipe is the parent's
        self._put_back()

    @property
    def status(self) -> int:
        """Exit status to stop with; 0: no request."""
        if self._signalled == 0 and self._deadline is not None:
            self._deadline.look(time.time())
            if self._deadline.status and self._asked_s is None:
                self._grace_s = min(self._grace_s, self._deadline.grace_s)
                self._asked_s = time.monotonic()
            return self._deadline.status
        return self._signalled

    def note_turn(self) -> None:
        """Record a turn of the loop of this rank; called some times a second."""
        self._turned_s = time.monotonic()

    def answer(self) -> None:
        """Record that the ranks have stopped; the rest has no time limit."""
        self._answered = True

    def unanswered_s(self) -> float:
        """Return the age of the request if the ranks have not stopped, else 0."""
        if self._asked_s is None or self._answered:
            return 0.0
        return time.monotonic() - self._asked_s

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._interrupts or (self._signalled and self._is_interactive):
            raise KeyboardInterrupt
        if self._signalled:  # the second signal: at once
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        else:
            self._signalled = self._status_of(number)
            self._asked_s = self._asked_s or time.monotonic()
            self.raise_if_requested()

    @contextmanager
    def raising_at_once(self) -> Iterator[None]:
        """Let a signal raise `JobStopped`, while there is nothing to finish first."""
        self._raises = True
        try:
            self.raise_if_requested()
            yield
        finally:
            self._raises = False

    def raise_if_requested(self) -> None:
        """Raise `JobStopped` inside `raising_at_once`, if this rank was asked to stop."""
        if self._raises and self._signalled:
            raise JobStopped(self._signalled)

    def _status_of(self, number: int) -> int:
        if number == signal.SIGINT:
            return INTERRUPTED
        return TRY_AGAIN if self._has_checkpoints else TERMINATED

    # -- in the watching thread --------------------------------------------------------

    def receive(self, number: int) -> None:
        """Take in a signal that has come, although Python may not have handled it yet."""
        if number in self._replaced:
            self._received.append(number)
            self._asked_s = self._asked_s or time.monotonic()

    def unresponsive_s(self) -> float:
        """Return how long this rank has made no turn since it was asked; 0: no answer is due."""
        asked_s = self._asked_s
        if self._answered or asked_s is None:
            return 0.0
        return time.monotonic() - max(asked_s, self._turned_s)

    def grace_left_s(self) -> float:
        """Return how long it may still make none."""
        return self._grace_s - self.unresponsive_s()

    def next_look_s(self) -> float | None:
        """Return when to look again if no signal comes; None: never."""
        asked = bool(self.status or self._received)
        deadline = None if self._deadline is None else self._deadline.stop_at_s
        return grace.next_look_s(asked and not self._answered, None if asked else deadline)

    def is_repeated(self) -> bool:
        """Whether a second signal has come."""
        return len(self._received) > 1

    def remind(self, doing: str) -> None:
        """Say what is waited for."""
        if grace.reports(self._rank):
            warn(
                f"asked to stop; waiting on rank {self._rank} for {doing}, for "
                f"{self.unresponsive_s():.0f} s now, {self.grace_left_s():.0f} s more at most; "
                "again to end at once"
            )

    def end(self, doing: str) -> None:
        """End all ranks; in an interactive session, only the function."""
        if self._interrupts:
            return
        kept = "the newest checkpoint is there" if self._has_checkpoints else "nothing is committed"
        complain(
            f"asked to stop, rank {self._rank} gave no answer for {self.unresponsive_s():.0f} s "
            f"(stop_grace_s={self._grace_s:g}): ended in {doing}; {kept}"
        )
        if self._is_interactive:
            self._interrupts = True
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            return
        flush()
        heard = self._received[:1] or [signal.SIGUSR2]
        self._abort(self.status or self._status_of(heard[0]))
