"""Ends a job that was asked to stop and gives no answer: a function of it may hang.

::

    signal --Python's C handler--> wake-up pipe --> watching thread: sees it although the main
                                                    thread is in a function, or a library

    asked, this rank's loop makes turns      the ranks stop at the end of a round, however long
                                             what is under way takes
    asked, the loop makes no turn            said after `SAY_AFTER_S`, ended after the grace time
    answered                                 the last checkpoint takes the time it takes

What does not give up Python's interpreter lock, as a loop in compiled code may, keeps the thread
from seeing anything; the other ranks end such a job.
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

SAY_AFTER_S = 2.0
"""How long a rank gives no answer before it says so."""

_LOOK_EVERY_S = 0.25
_SECOND_S = 1.0
_PACKAGE = f"{Path(__file__).resolve().parents[1]}{os.sep}"
_FURTHEST_RANK = 8
"""Ranks from this on leave it to those before them to say what they wait for."""


class Request(Protocol):
    """A request to stop, as the watching thread sees it."""

    def hear(self, number: int) -> None:
        """Take in a signal that has come, although Python may not have handled it yet."""

    def quiet_s(self) -> float:
        """Return how long this rank has made no turn since it was asked; 0: no answer is due."""

    def grace_left_s(self) -> float:
        """Return how long it may still make none."""

    def next_look_s(self) -> float | None:
        """Return when to look again if no signal comes; None: never."""

    def ends_now(self) -> bool:
        """Whether a second signal has come."""

    def end(self, doing: str) -> None:
        """End the job."""

    def remind(self, doing: str) -> None:
        """Say what is waited for."""


class Watch:
    """The thread, and the pipe by which signals wake it; a context of the main thread.

    Parameters
    ----------
    request : Request
    doing : callable
        Returns what this rank works on; called in the thread.
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
        said = False
        while not self._is_over:
            readable, _, _ = select.select([self._reading], [], [], self._request.next_look_s())
            for number in os.read(self._reading, 64) if readable else b"":
                self._request.hear(number)
            if self._request.ends_now():
                time.sleep(_SECOND_S)  # it ends by itself where Python comes to handle it
                self._request.end(self.what())
            quiet_s = self._request.quiet_s()
            if quiet_s and self._request.grace_left_s() <= 0:
                self._request.end(self.what())
            elif quiet_s > SAY_AFTER_S and not said:
                said = True
                self._request.remind(self.what())

    def what(self) -> str:
        """Return what the main thread is in: a function of the user's, and where it was called."""
        doing = ""
        with contextlib.suppress(Exception):  # it goes on meanwhile
            doing = self._doing()
        function = function_within(sys._current_frames().get(self._main))
        return ", ".join(filter(None, (function, doing)))


def function_within(frame: FrameType | None) -> str:
    """Return which function that is not ours the engine has called: ``f (job.py, line 7)``."""
    entered = None
    while frame is not None and not os.path.realpath(frame.f_code.co_filename).startswith(_PACKAGE):
        entered, frame = frame, frame.f_back
    if entered is None or frame is None:
        return ""
    code = entered.f_code
    return f"{code.co_qualname} ({os.path.basename(code.co_filename)}, line {entered.f_lineno})"


def speaks(rank: int) -> bool:
    """Whether a rank that gives no answer says so itself."""
    return rank < _FURTHEST_RANK


def next_look_s(asked: bool, deadline_s: float | None) -> float | None:
    """Return how long the thread may sleep."""
    if asked:
        return _LOOK_EVERY_S
    return None if deadline_s is None else max(_LOOK_EVERY_S, deadline_s - time.time())
