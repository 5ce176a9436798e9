"""Stopping well: signals, and the end of a batch job's time, ask for a last checkpoint.

TERM and USR2 (what batch systems send before the limit) end the job with exit status
75, "try again"; INT with 130. The second signal ends the process at once. Without
checkpoints nothing is kept, and the statuses are 143 and 130.
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
"""How long a rank may make no turn after it was asked to stop: Slurm kills after 30 s."""

_MARGIN_S = 60.0
_LARGEST_SHARE = 0.1  # of the time that was left at the start
_LARGEST_GRACE = 0.75  # of the margin
_LEAST_GRACE_S = 5.0  # of a job that begins when its time is over


class StopRequest(Protocol):
    """Says whether this rank was asked to stop."""

    @property
    def status(self) -> int:
        """Exit status to stop with; 0: nobody asked."""

    def note_turn(self) -> None:
        """Note that this rank's loop has made a turn; called some times a second."""

    def answer(self) -> None:
        """Note that the ranks have stopped; what is left to do takes the time it takes."""

    def unanswered_s(self) -> float:
        """Return how long ago this rank was asked, if the ranks have not stopped; else 0."""


@dataclass
class AskedToStop:
    """A request that the program makes itself."""

    status: int = 0

    def note_turn(self) -> None:
        """Nobody waits for the answer."""

    def answer(self) -> None:
        """Nobody waits for the answer."""

    def unanswered_s(self) -> float:
        """Nobody waits for the answer."""
        return 0.0


class Deadline:
    """A request that makes itself when the batch job's time is nearly over.

    Parameters
    ----------
    end_s : float
        When the time is over, in seconds since the epoch.
    now_s : float
    """

    def __init__(self, end_s: float, now_s: float) -> None:
        self.status = 0
        margin_s = min(_MARGIN_S, _LARGEST_SHARE * max(end_s - now_s, 0.0))
        self.stop_at_s = end_s - margin_s
        self.grace_s = max(_LARGEST_GRACE * margin_s, _LEAST_GRACE_S)
        """How long a rank may give no answer, so that the job ends within its time."""

    def look(self, now_s: float) -> None:
        """Make the request if it is time."""
        if not self.status and now_s >= self.stop_at_s:
            self.status = TRY_AGAIN


class SignalledStop:
    """Turns signals into a request; a context, in the main thread only.

    Handlers exist while the context does, and those before are put back. The process is
    ended if the request gets no answer for the grace time (`hpcstream.process.grace`).

    Parameters
    ----------
    has_checkpoints : bool
    environ : mapping
        ``SLURM_JOB_END_TIME`` in it: stop by itself shortly before.
    grace_s : float
        How long this rank may make no turn after it was asked.
    rank : int
    abort : callable
        Ends all ranks with an exit status.
    is_interactive : bool
        Whether a session would be lost with the process: the function is interrupted instead.
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
        self._heard: list[int] = []
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
        """Exit status to stop with; 0: nobody asked."""
        if self._signalled == 0 and self._deadline is not None:
            self._deadline.look(time.time())
            if self._deadline.status and self._asked_s is None:
                self._grace_s = min(self._grace_s, self._deadline.grace_s)
                self._asked_s = time.monotonic()
            return self._deadline.status
        return self._signalled

    def note_turn(self) -> None:
        """Note that this rank's loop has made a turn; called some times a second."""
        self._turned_s = time.monotonic()

    def answer(self) -> None:
        """Note that the ranks have stopped; what is left to do takes the time it takes."""
        self._answered = True

    def unanswered_s(self) -> float:
        """Return how long ago this rank was asked, if the ranks have not stopped; else 0."""
        if self._asked_s is None or self._answered:
            return 0.0
        return time.monotonic() - self._asked_s

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._interrupts or (self._signalled and self._is_interactive):
            raise KeyboardInterrupt
        if self._signalled:  # the second time: at once
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        else:
            self._signalled = self._status_of(number)
            self._asked_s = self._asked_s or time.monotonic()
            self.raise_if_wished()

    @contextmanager
    def heard_at_once(self) -> Iterator[None]:
        """Have a signal raise `JobStopped`, while nothing is under way that has to be ended."""
        self._raises = True
        try:
            self.raise_if_wished()
            yield
        finally:
            self._raises = False

    def raise_if_wished(self) -> None:
        """Raise `JobStopped` within `heard_at_once`, if this rank was asked to stop."""
        if self._raises and self._signalled:
            raise JobStopped(self._signalled)

    def _status_of(self, number: int) -> int:
        if number == signal.SIGINT:
            return INTERRUPTED
        return TRY_AGAIN if self._has_checkpoints else TERMINATED

    # -- in the watching thread --------------------------------------------------------

    def hear(self, number: int) -> None:
        """Take in a signal that has come, although Python may not have handled it yet."""
        if number in self._replaced:
            self._heard.append(number)
            self._asked_s = self._asked_s or time.monotonic()

    def quiet_s(self) -> float:
        """Return how long this rank has made no turn since it was asked; 0: no answer is due."""
        asked_s = self._asked_s
        if self._answered or asked_s is None:
            return 0.0
        return time.monotonic() - max(asked_s, self._turned_s)

    def grace_left_s(self) -> float:
        """Return how long it may still make none."""
        return self._grace_s - self.quiet_s()

    def next_look_s(self) -> float | None:
        """Return when to look again if no signal comes; None: never."""
        asked = bool(self.status or self._heard)
        deadline = None if self._deadline is None else self._deadline.stop_at_s
        return grace.next_look_s(asked and not self._answered, None if asked else deadline)

    def ends_now(self) -> bool:
        """Whether a second signal has come."""
        return len(self._heard) > 1

    def remind(self, doing: str) -> None:
        """Say what is waited for."""
        if grace.speaks(self._rank):
            warn(
                f"asked to stop; waiting on rank {self._rank} for {doing}, for "
                f"{self.quiet_s():.0f} s now, {self.grace_left_s():.0f} s more at most; "
                "again to end at once"
            )

    def end(self, doing: str) -> None:
        """End all ranks; in a session, the function only."""
        if self._interrupts:
            return
        kept = "the newest checkpoint is there" if self._has_checkpoints else "nothing is committed"
        complain(
            f"asked to stop, rank {self._rank} gave no answer for {self.quiet_s():.0f} s "
            f"(stop_grace_s={self._grace_s:g}): ended in {doing}; {kept}"
        )
        if self._is_interactive:
            self._interrupts = True
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            return
        flush()
        heard = self._heard[:1] or [signal.SIGUSR2]
        self._abort(self.status or self._status_of(heard[0]))
