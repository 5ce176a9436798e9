"""What the package tells people: loggers, and the only place that writes to the standard streams.

::

    say, warn, ...  --> logger "hpcstream"            what happens, where it goes on from, faults
    show_progress   --> logger "hpcstream.progress"   how far a job is, in a log a line a minute
    show_summary    --> logger "hpcstream.summary"    what a job has done
    show_traceback  --> logger "hpcstream.errors"     errors that Python itself does not show
                          |
                          +-- somebody's handler, if there is one (of these loggers, or of those
                          |   above): the program's configuration of `logging` decides
                          +-- else plain lines on standard error

So a program that configures nothing sees plain lines; one that configures `logging` gets the
records in its own handlers, once, each with the number of the rank (``record.rank``). The first
message makes the loggers: importing this configures nothing.

Somebody may have closed the stream, its disk may be full, whoever read it may have gone. None of
this is a reason to end a job, or to leave something behind that fails when the process ends: what
cannot be said is not said.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import select
import sys
import traceback
from collections.abc import Mapping
from logging import ERROR, INFO, WARNING
from typing import TextIO

LOGGER = "hpcstream"
PROGRESS = f"{LOGGER}.progress"
SUMMARY = f"{LOGGER}.summary"
ERRORS = f"{LOGGER}.errors"

_RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID")

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


def write_out_output() -> None:
    """Write out what is left in standard output.

    Raises
    ------
    BrokenPipeError
        Whoever read it has gone.
    """
    if sys.stdout is not None:
        sys.stdout.flush()


def drop_output() -> None:
    """Have what is left in standard output, and what still comes, go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def say(text: str, level: int = INFO) -> None:
    """Tell the user something."""
    _logger(LOGGER).log(level, text, extra=_rank(), stacklevel=2)


def warn(text: str) -> None:
    """Tell the user of something that may not be meant, or that the job gets over."""
    _logger(LOGGER).log(WARNING, text, extra=_rank(), stacklevel=2)


def complain(text: str) -> None:
    """Tell the user of something that ends the job, or leaves out what was asked for."""
    _logger(LOGGER).log(ERROR, text, extra=_rank(), stacklevel=2)


def show_progress(text: str) -> None:
    """Show how far a job is."""
    _logger(PROGRESS).info(text, extra=_rank(), stacklevel=2)


def show_summary(text: str) -> None:
    """Show what a job has done."""
    _logger(SUMMARY).info(text, extra=_rank(), stacklevel=2)


def show_traceback(error: BaseException) -> None:
    """Show an error with its traceback."""
    text = "".join(traceback.format_exception(error)).removesuffix("\n")
    _logger(ERRORS).error(text, extra=_rank(), stacklevel=2)


def shows_progress() -> bool:
    """Return whether somebody wants to see how far a job is."""
    return _logger(PROGRESS).isEnabledFor(INFO)


def launched_rank(environ: Mapping[str, str] = os.environ) -> int:
    """Return the number that a launcher gave this process; 0 without one."""
    for name in _RANK_VARIABLES:
        if environ.get(name, "").isdecimal():
            return int(environ[name])
    return 0


class LastResort(logging.Handler):
    """Writes records to standard error, unless another handler takes them.

    The lines of `LOGGER` itself begin with its name; a table, a live line or a traceback does not.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; never fails."""
        if not _is_taken(record.name):
            ERR.write(f"{self.format(record)}\n")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or lines."""
        text = record.getMessage()
        return f"{record.name}: {text}" if record.name == LOGGER else text


def _rank() -> dict[str, int]:
    return {"rank": launched_rank()}


@functools.cache
def _logger(name: str) -> logging.Logger:
    """Return a logger. The first call says where records go that nobody takes."""
    top = logging.getLogger(LOGGER)
    if not top.handlers:  # else the program has given it its own
        top.addHandler(LastResort())
    if top.level == logging.NOTSET:
        top.setLevel(INFO)
    return logging.getLogger(name)


def _is_taken(name: str) -> bool:
    """Return whether a handler of somebody else's gets what is said to a logger."""
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        if not all(isinstance(handler, LastResort) for handler in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False


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
        complain(f"standard output cannot be written ({error.strerror}): what is printed is lost")
