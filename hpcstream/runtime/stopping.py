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
from collections.abc import Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

from hpcstream import children

TRY_AGAIN = 75
INTERRUPTED = 130
TERMINATED = 143

_SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)
_MARGIN_S = 60.0
_LARGEST_SHARE = 0.1  # of the time that was left at the start


class StopRequest(Protocol):
    """Says whether this rank was asked to stop."""

    @property
    def status(self) -> int:
        """Exit status to stop with; 0: nobody asked."""


@dataclass
class AskedToStop:
    """A request that the program makes itself."""

    status: int = 0


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
        left_s = max(end_s - now_s, 0.0)
        self.stop_at_s = end_s - min(_MARGIN_S, _LARGEST_SHARE * left_s)

    def look(self, now_s: float) -> None:
        """Make the request if it is time."""
        if not self.status and now_s >= self.stop_at_s:
            self.status = TRY_AGAIN


class SignalledStop:
    """Turns signals into a request; a context, in the main thread only.

    Handlers exist while the context does, and those before are put back.

    Parameters
    ----------
    has_checkpoints : bool
    environ : mapping
        ``SLURM_JOB_END_TIME`` in it: stop by itself shortly before.
    """

    def __init__(self, *, has_checkpoints: bool, environ: Mapping[str, str] = os.environ) -> None:
        self._has_checkpoints = has_checkpoints
        self._replaced: dict[int, object] = {}
        self._signalled = 0
        end = environ.get("SLURM_JOB_END_TIME", "")
        self._deadline = None
        if has_checkpoints and end.isdecimal():
            self._deadline = Deadline(float(end), time.time())

    def __enter__(self) -> SignalledStop:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._replaced[number] = signal.signal(number, self._receive)
            children.handle_signals(tuple(self._replaced), self._put_back)
        return self

    def __exit__(self, *_: object) -> None:
        if self._replaced:
            children.handle_signals((), None)
        self._put_back()

    def _put_back(self) -> None:
        for number, handler in self._replaced.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._replaced = {}

    @property
    def status(self) -> int:
        """Exit status to stop with; 0: nobody asked."""
        if self._signalled == 0 and self._deadline is not None:
            self._deadline.look(time.time())
            return self._deadline.status
        return self._signalled

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._signalled:  # the second time: at once
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif number == signal.SIGINT:
            self._signalled = INTERRUPTED
        else:
            self._signalled = TRY_AGAIN if self._has_checkpoints else TERMINATED
