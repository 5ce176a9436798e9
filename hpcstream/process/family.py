"""Child processes that functions of a job fork: they are not ranks.

::

    rank --os.fork, a pool, a data loader--> child
         signal handlers                  as before the run: signals end the child
         exit, an error, a return         ends the child; job, MPI and sinks belong to the parent

A child may run its own job, which it then owns.
"""

from __future__ import annotations

import atexit
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from hpcstream.log import complain, flush, show_traceback


class _Process:
    """The relation of this process to the job that runs in it, or in its parent."""

    runs_job = False
    is_child = False
    handled: tuple[int, ...] = ()
    put_back: Callable[[], None] | None = None
    exit_status: int | None = None


_blocked = threading.local()


@functools.cache
def watch_forks() -> None:
    """Register the fork handlers; once a process."""
    os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)


@contextmanager
def job_of_this_process() -> Iterator[None]:
    """Let children forked inside end if they return into the job."""
    watch_forks()
    before = _Process.runs_job, _Process.is_child
    _Process.runs_job, _Process.is_child = True, False
    try:
        yield
    finally:
        if not _Process.is_child:
            _Process.runs_job, _Process.is_child = before


def handle_signals(numbers: tuple[int, ...], put_back: Callable[[], None] | None) -> None:
    """Record the signals handled here, and how to restore the handlers in a child."""
    watch_forks()
    _Process.handled, _Process.put_back = numbers, put_back


def end_if_child(error: BaseException | None = None) -> None:
    """End this process if it was forked by a function of a job and returned into the job."""
    if _Process.is_child:
        _end(error)


def note_exit(status: int) -> None:
    """Record the argument of ``sys.exit``."""
    _Process.exit_status = status


def exit_number(status: Any) -> int:
    """Return the exit status that a shell sees for an argument of ``sys.exit``."""
    if status is None:
        return 0
    return status & 0xFF if isinstance(status, int) else 1


def _end(error: BaseException | None) -> NoReturn:
    status = 1
    if error is None:
        complain(
            f"process {os.getpid()}, forked by a function of the job, returned into the job "
            "and is ended: call os._exit() in the function"
        )
    elif isinstance(error, SystemExit):
        status = exit_number(error.code)
    else:
        show_traceback(error)
    flush()
    os._exit(status)


def _before_fork() -> None:
    # Python would lose a signal that arrives before the child restores its handlers.
    if _Process.handled:
        _blocked.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _Process.handled)


def _in_parent() -> None:
    mask = _blocked.__dict__.pop("mask", None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _in_child() -> None:
    _Process.is_child = _Process.is_child or _Process.runs_job
    if _Process.put_back is not None:
        _Process.put_back()
    _Process.handled, _Process.put_back = (), None
    if "mpi4py.MPI" in sys.modules:
        _Process.exit_status = None
        atexit.register(_leave_mpi_alone)
    _in_parent()


def _leave_mpi_alone() -> None:
    """Exit a child without finalizing what its parent started, MPI above all."""
    failed = hasattr(sys, "last_type")
    flush()
    os._exit(int(failed) if _Process.exit_status is None else _Process.exit_status)
