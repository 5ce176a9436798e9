"""Messages for users: the loggers, and the only module that writes to the standard streams.

::

    say, warn, ...  --> logger "hpcstream"            events, warnings, errors
    show_progress   --> logger "hpcstream.progress"   the progress line, in a log once a minute
    show_summary    --> logger "hpcstream.summary"    the result of a job
    show_traceback  --> logger "hpcstream.errors"     errors that Python itself does not show
                          |
                          +-- the handlers of the program, if it has any (of these loggers or of
                          |   their parents): its configuration of `logging` decides
                          +-- else plain lines on standard error

A program that does not configure `logging` sees plain lines; one that does gets each record once,
in its own handlers, with the number of the rank (``record.rank``). The first message creates the
loggers: the import configures nothing.

A stream may be closed, its disk full, its reader gone. None of this ends a job, or fails later
when the process exits: the message is dropped.
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
"""Exceptions of a stream that is full, broken, closed, or not a stream."""

_WRITABLE_S = 5.0
"""How long to wait until a non-blocking stream is writable again."""


class StandardStream:
    """A standard stream, looked up in `sys` at each call.

    Parameters
    ----------
    name : str
        ``"stderr"`` or ``"stdout"``.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def write(self, text: str) -> int:
        """Write and flush; drop the text if the stream is unusable."""
        stream: TextIO | None = getattr(sys, self._name, None)
        if stream is not None:
            try:
                _write(stream, text, is_own=stream is getattr(sys, f"__{self._name}__"))
            except _UNUSABLE as error:
                _give_up(self._name, stream, error)
        return len(text)

    def flush(self) -> None:
        """Flush the buffer of the stream."""
        stream: TextIO | None = getattr(sys, self._name, None)
        if stream is not None:
            try:
                stream.flush()
            except _UNUSABLE as error:
                _give_up(self._name, stream, error)

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        try:
            return bool(getattr(sys, self._name).isatty())
        except _UNUSABLE:
            return False


ERR = StandardStream("stderr")
OUT = StandardStream("stdout")


def write_out_output() -> None:
    """Flush standard output.

    Raises
    ------
    BrokenPipeError
        Its reader has closed the pipe.
    """
    if sys.stdout is not None:
        sys.stdout.flush()


def drop_output() -> None:
    """Discard buffered and later output of standard output."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def say(text: str, level: int = INFO) -> None:
    """Log a message for the user."""
    _logger(LOGGER).log(level, text, extra=_rank(), stacklevel=2)


def warn(text: str) -> None:
    """Log a warning: something may be unintended, or the job recovered from it."""
    _logger(LOGGER).log(WARNING, text, extra=_rank(), stacklevel=2)


def complain(text: str) -> None:
    """Log an error that ends the job, or leaves a request unfulfilled."""
    _logger(LOGGER).log(ERROR, text, extra=_rank(), stacklevel=2)


def show_progress(text: str) -> None:
    """Show the progress of a job."""
    _logger(PROGRESS).info(text, extra=_rank(), stacklevel=2)


def show_summary(text: str) -> None:
    """Show the summary of a job."""
    _logger(SUMMARY).info(text, extra=_rank(), stacklevel=2)


def show_traceback(error: BaseException) -> None:
    """Show an error with its traceback."""
    text = "".join(traceback.format_exception(error)).removesuffix("\n")
    _logger(ERRORS).error(text, extra=_rank(), stacklevel=2)


def shows_progress() -> bool:
    """Return whether the progress logger is enabled."""
    return _logger(PROGRESS).isEnabledFor(INFO)


def launched_rank(environ: Mapping[str, str] = os.environ) -> int:
    """Return the rank that a launcher gave this process; 0 without a launcher."""
    for name in _RANK_VARIABLES:
        if environ.get(name, "").isdecimal():
            return int(environ[name])
    return 0


class LastResort(logging.Handler):
    """Writes records to standard error, unless another handler receives them.

    Lines of `LOGGER` itself start with its name; tables, progress lines and tracebacks do not.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; never fails."""
        if not _has_other_handler(record.name):
            ERR.write(f"{self.format(record)}\n")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or lines."""
        text = record.getMessage()
        return f"{record.name}: {text}" if record.name == LOGGER else text


def _rank() -> dict[str, int]:
    return {"rank": launched_rank()}


@functools.cache
def _logger(name: str) -> logging.Logger:
    """Return a logger. The first call installs `LastResort`."""
    top = logging.getLogger(LOGGER)
    if not top.handlers:  # else the program has configured it
        top.addHandler(LastResort())
    if top.level == logging.NOTSET:
        top.setLevel(INFO)
    return logging.getLogger(name)


def _has_other_handler(name: str) -> bool:
    """Return whether a handler other than `LastResort` receives the records of a logger."""
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        if not all(isinstance(handler, LastResort) for handler in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False


def flush() -> None:
    """Flush the standard streams."""
    OUT.flush()
    ERR.flush()


def occupy_closed_streams() -> None:
    """Open ``/dev/null`` for each standard stream that is closed.

    Otherwise the next file opened, perhaps an output of the job, gets its descriptor, and receives
    what libraries write to the stream.
    """
    with contextlib.suppress(OSError):
        while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(opened, True)
        os.close(opened)


def _write(stream: TextIO, text: str, *, is_own: bool) -> None:
    """Write text; to the descriptor directly if the stream is the one that Python opened.

    A failed write would stay in the buffer, be tried again when the process exits, and fail there.
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
        except BlockingIOError:  # another program made the terminal non-blocking
            if not select.select([], [stream.fileno()], [], _WRITABLE_S)[1]:
                return


def _give_up(name: str, stream: TextIO, error: BaseException) -> None:
    """Discard the buffer of a broken stream, which would fail again when the process exits."""
    if name != "stdout" or not isinstance(error, OSError):
        return
    with contextlib.suppress(*_UNUSABLE):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
        stream.flush()
        complain(f"standard output cannot be written ({error.strerror}): what is printed is lost")
