"""What the package tells people: the only place that writes to standard error and output.

Somebody may have closed the stream, its disk may be full, whoever read it may have gone. None of
this is a reason to end a job, or to leave something behind that fails when the process ends: what
cannot be said is not said.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import traceback
from typing import TextIO

_UNUSABLE = (OSError, ValueError, AttributeError)
"""What a stream raises that is full or broken, closed, or no stream at all."""

_ROOM_S = 5.0
"""How long a stream that does not block may take to have room again."""


class Speaker:
    """A standard stream, as it is at the moment of each call.

    Parameters
    ----------
    name : str
        ``"stderr"`` or ``"stdout"``.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def write(self, text: str) -> int:
        """Write and flush, if that is possible."""
        stream: TextIO | None = getattr(sys, self._name, None)
        if stream is not None:
            try:
                _write(stream, text, is_own=stream is getattr(sys, f"__{self._name}__"))
            except _UNUSABLE as error:
                _give_up(self._name, stream, error)
        return len(text)

    def flush(self) -> None:
        """Write out what others have left in the stream."""
        stream: TextIO | None = getattr(sys, self._name, None)
        if stream is not None:
            try:
                stream.flush()
            except _UNUSABLE as error:
                _give_up(self._name, stream, error)

    def isatty(self) -> bool:
        """Return whether a terminal is at its end."""
        try:
            return bool(getattr(sys, self._name).isatty())
        except _UNUSABLE:
            return False


ERR = Speaker("stderr")
OUT = Speaker("stdout")


def say(text: str) -> None:
    """Tell the user something, on standard error."""
    ERR.write(f"hpcstream: {text}\n")


def show_traceback(error: BaseException) -> None:
    """Write an error with its traceback to standard error."""
    ERR.write("".join(traceback.format_exception(error)))


def flush() -> None:
    """Write out what is left in the standard streams."""
    OUT.flush()
    ERR.flush()


def occupy_closed_streams() -> None:
    """Open ``/dev/null`` for each standard stream that is closed.

    Else the next file that is opened, of a job's output perhaps, gets its number, and with it what
    libraries write there.
    """
    with contextlib.suppress(OSError):
        while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(opened, True)
        os.close(opened)


def _write(stream: TextIO, text: str, *, is_own: bool) -> None:
    """Write; past the buffers of a stream that only Python's start has opened.

    What cannot be written stays in a buffer, and would be tried again, and fail, at the end of
    the process.
    """
    stream.flush()
    if not is_own:
        stream.write(text)
        stream.flush()
        return
    rest = memoryview(text.encode(stream.encoding or "utf-8", "backslashreplace"))
    while rest:
        try:
            rest = rest[os.write(stream.fileno(), rest) :]
        except BlockingIOError:  # a terminal that another program has set so
            if not select.select([], [stream.fileno()], [], _ROOM_S)[1]:
                return


def _give_up(name: str, stream: TextIO, error: BaseException) -> None:
    """Do not fail again, at the end of the process, over what a broken stream still holds."""
    if name != "stdout" or not isinstance(error, OSError):
        return
    with contextlib.suppress(*_UNUSABLE):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        stream.flush()
        say(f"standard output cannot be written ({error.strerror}): what is printed is lost")
