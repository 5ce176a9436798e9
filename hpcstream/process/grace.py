"""Aborts a job that does not respond to a request to stop: one of its functions may hang.

::

    signal --Python's C handler--> wake-up pipe --> watching thread: receives it even while the
                                                    main thread is in a function, or a library

    asked, the loop of the rank turns        the ranks stop at the end of a round, however long
                                             its batches take
    asked, the loop does not turn            warns after `WARN_AFTER_S`, aborts after the grace time
    the ranks have stopped                   the last checkpoint has no time limit

Code that never releases the interpreter lock, as a loop in compiled code may, blocks the thread;
the other ranks abort such a job.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Protocol

WARN_AFTER_S = 2.0
"""How long a rank is unresponsive before it warns."""

_LOOK_EVERY_S = 0.25
_SECOND_S = 1.0
_PACKAGE = f"{Path(__file__).resolve().parents[1]}{os.sep}"
_FURTHEST_RANK = 8
"""Ranks from this one on leave the warning to those before them."""


class Request(Protocol):
    """A request to stop, as the watching thread sees it."""

    def receive(self, number: int) -> None:
        """Record a signal that has arrived, although Python may not have handled it yet."""

    def unresponsive_s(self) -> float:
        """Return how long the loop has not turned since the request; 0 without one."""

    def grace_left_s(self) -> float:
        """Return the rest of the grace time."""

    def next_look_s(self) -> float | None:
        """Return the seconds until the next look without a signal; None: never."""

    def is_repeated(self) -> bool:
        """Whether a second signal has arrived."""

    def end(self, doing: str) -> None:
        """End the job."""

    def remind(self, doing: str) -> None:
        """Warn, and name the activity that the request waits for."""


class Watch:
    """The thread, and the pipe by which signals wake it; a context of the main thread.

    Parameters
    ----------
    request : Request
    doing : callable
        Returns the activity of this rank; called in the thread.
    """

    def __init__(self, request: Request, doing: Callable[[], str]) -> None:
        self._request = request
        self._doing = doing
        self._main = threading.get_ident()
        self._thread: threading.Thread | None = None
        self._is_over = False

    def __enter__(self) -> Watch:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._before: int | None = None
        if threading.current_thread() is threading.main_thread():
            self._before = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, name="hpcstream-grace", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.set_wakeup_fd(self._before)
        self._is_over = True
        os.write(self._writing, b"\0")
        assert self._thread is not None
        self._thread.join()
        os.close(self._reading)
        os.close(self._writing)

    def _watch(self) -> None:
        is_warned = False
        while not self._is_over:
            readable, _, _ = select.select([self._reading], [], [], self._request.next_look_s())
            for number in os.read(self._reading, 64) if readable else b"":
                self._request.receive(number)
            if self._request.is_repeated():
                time.sleep(
                    _SECOND_S
                )  # the process exits by itself if Python gets to handle the signal
                self._request.end(self.activity())
            unresponsive_s = self._request.unresponsive_s()
            if unresponsive_s and self._request.grace_left_s() <= 0:
                self._request.end(self.activity())
            elif unresponsive_s > WARN_AFTER_S and not is_warned:
                is_warned = True
                self._request.remind(self.activity())

    def activity(self) -> str:
        """Return the activity of the main thread: the function of the user, and who called it."""
        doing = ""
        with contextlib.suppress(Exception):  # the main thread runs on meanwhile
            doing = self._doing()
        function = function_within(sys._current_frames().get(self._main))
        return ", ".join(filter(None, (function, doing)))


def function_within(frame: FrameType | None) -> str:
    """Return the outermost function of the user that the engine called: ``f (job.py, line 7)``."""
    entered = None
    while frame is not None and not os.path.realpath(frame.f_code.co_filename).startswith(_PACKAGE):
        entered, frame = frame, frame.f_back
    if entered is None or frame is None:
        return ""
    code = entered.f_code
    return f"{code.co_qualname} ({os.path.basename(code.co_filename)}, line {entered.f_lineno})"


def reports(rank: int) -> bool:
    """Whether an unresponsive rank warns itself."""
    return rank < _FURTHEST_RANK


def next_look_s(asked: bool, deadline_s: float | None) -> float | None:
    """Return how long the thread may sleep."""
    if asked:
        return _LOOK_EVERY_S
    return None if deadline_s is None else max(_LOOK_EVERY_S, deadline_s - time.time())
