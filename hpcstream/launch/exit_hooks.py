"""What a rank does when it leaves its script, so that it does not leave other ranks waiting.

::

    before MPI has started
        with an error      the other ranks are ended: Open MPI's launcher does so, MPICH's is asked
        with success       waits until the other ranks of this host have left, too, or stand in
                           MPI's start, where they would wait for ever: then it ends them
    afterwards             `hpcstream.process.farewell`

The first job of a process installs the hooks; importing hpcstream does not. Where `EXIT_HOOKS` is
set, as ``hpcstream run`` does for its ranks, importing does, too: then a script that leaves before
it builds a job is covered as well.
"""

from __future__ import annotations

import atexit
import builtins
import os
import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, NoReturn

from hpcstream.environment import ALLOW_SINGLETONS
from hpcstream.launch.quirks import mpich
from hpcstream.log import complain, flush, launched_rank, warn
from hpcstream.process import family, farewell, siblings
from hpcstream.process.failure import exit_status_of, failure_of
from hpcstream.process.farewell import World, mpi_has_started
from hpcstream.process.first_word import wait_for_word
from hpcstream.process.tracebacks import shorten

_LOOK_EVERY_S = 0.5
_MOST_NAMED = 3


def install() -> None:
    """Have leaving the script not leave others waiting, and errors shown short."""
    family.watch_forks()
    watch_exit()
    install_excepthook()


# -- errors --------------------------------------------------------------------------------


def install_excepthook(*, around_others: bool = False) -> None:
    """Shorten what this process shows of an error that leaves its script, and end other ranks.

    Parameters
    ----------
    around_others : bool
        Whether a hook of someone else's is called by ours; else it is left alone.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None and not shell.custom_exceptions:
        shell.set_custom_exc((Exception,), _show_in_ipython)
    before = sys.excepthook
    if isinstance(before, Hook) or not (around_others or before is sys.__excepthook__):
        return
    sys.excepthook = Hook(before)


def _show_in_ipython(
    shell: Any, kind: type[BaseException], error: BaseException, trace: Any, tb_offset: Any = None
) -> None:
    shortened = shorten(error)
    shell.showtraceback((kind, shortened, shortened.__traceback__), tb_offset=tb_offset)


class Hook:
    """Ends the whole job when an error leaves the script on one rank of several.

    Without it the other ranks would wait for ever in their next collective, or in MPI's start.
    Of an error that all ranks have agreed on, each ends by itself.
    """

    def __init__(self, before: Callable[..., object]) -> None:
        self._before = before
        self._process = os.getpid()

    def __call__(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        """Show the error, once of several ranks that fail alike."""
        if os.getpid() != self._process:  # a child that it has forked
            self._before(kind, error, trace)
            return
        failure = failure_of(error)
        if not failure.is_agreed:
            wait_for_word(os.environ)
        if not failure.is_shown:
            self._before(kind, error, shorten(error).__traceback__)
        flush()
        if not failure.is_agreed:
            end_after_error(error)
        if exit_status_of(error) != 1:
            raise SystemExit(exit_status_of(error))


def end_after_error(error: BaseException) -> None:
    """End the other ranks if they would wait for this one, which an error has made leave."""
    status = 130 if isinstance(error, KeyboardInterrupt) else 1
    if mpi_has_started():
        flush()
        _end_world(status)
    elif mpich.would_be_waited_for(os.environ):
        mpich.end_all_ranks(status, _end_world)


# -- sys.exit, and the end of the script ---------------------------------------------------


def watch_exit(environ: Mapping[str, str] = os.environ) -> None:
    """Have leaving the script not leave others waiting.

    At exit Python no longer tells the status, so ``sys.exit`` is wrapped to note it. Does
    nothing where no launcher of several ranks started this process.
    """
    size = environ.get("OMPI_COMM_WORLD_SIZE") or environ.get("PMI_SIZE", "")
    if not size.isdecimal() or int(size) < 2 or isinstance(sys.exit, WatchedExit):
        return
    watched = WatchedExit(sys.exit)
    sys.exit = watched
    for name in ("exit", "quit"):  # of an interactive Python, which scripts use all the same
        if hasattr(builtins, name):
            setattr(builtins, name, watched)
    atexit.register(_at_exit, watched, environ, os.getpid())


class WatchedExit:
    """``sys.exit``, which notes the status that it is called with."""

    def __init__(self, leave: Callable[[Any], NoReturn]) -> None:
        self._leave = leave
        self.status = 0

    def __call__(self, status: Any = None, /) -> NoReturn:
        """Leave the script."""
        self.status = family.exit_number(status)
        family.note_exit(self.status)
        self._leave(status)


def _at_exit(watched: WatchedExit, environ: Mapping[str, str], process: int) -> None:
    if os.getpid() != process:  # a child that it has forked
        return
    status = watched.status
    if mpi_has_started():
        farewell.leave(_world(), status or _status_of_error())
    elif "mpi4py.MPI" in sys.modules:
        return
    elif status and mpich.would_be_waited_for(environ):
        _say(f"left the script with status {status} before job.run(), where the other ranks wait")
        mpich.end_all_ranks(status, _end_world)
    elif not status and not hasattr(sys, "last_type") and environ.get(ALLOW_SINGLETONS) != "1":
        leave_together(environ)


def _status_of_error() -> int:
    """Return 1 if an error has left the script here, and not on all ranks together."""
    error = getattr(sys, "last_value", None)
    alone = error is not None and not failure_of(error).is_agreed
    return int(alone and not hasattr(sys, "ps1"))


def leave_together(environ: Mapping[str, str]) -> None:
    """Wait until no rank of this host can come to wait for this one; end those that do."""
    siblings.mark_as_left()
    while others := siblings.others_here():
        if any(map(siblings.is_in_mpi, others)):
            _say("left the script before job.run(), where others wait")
            if mpich.would_be_waited_for(environ):
                mpich.end_all_ranks(1, _end_world)
            os._exit(1)  # Open MPI's launcher ends the others
        time.sleep(_LOOK_EVERY_S)


def _say(what: str) -> None:
    complain(f"this rank {what} for it; ending all ranks")


def _end_world(status: int) -> None:
    """End every rank at once; does nothing where this process is alone."""
    world = _world()
    if world.size > 1:
        world.abort(status)


def _world() -> World:
    """Return all ranks; starts MPI if it has not started."""
    from hpcstream.exchange import mpi

    return mpi.world()


# -- jobs that nobody runs -----------------------------------------------------------------


class Reminder:
    """Of a job that has sinks: unless it is run, the end of the script names it.

    It does not keep the job, which may be gone by then.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def set(self) -> None:
        """Name the job at the end."""
        if not _reminders.is_registered:
            _reminders.is_registered = True
            atexit.register(_remind)
        _reminders.processes[self] = os.getpid()

    def clear(self) -> None:
        """Forget it: the job is run, or looked at."""
        _reminders.processes.pop(self, None)


class _Reminders:
    """The jobs that were never run, with the process that built each: children have copies."""

    def __init__(self) -> None:
        self.processes: dict[Reminder, int] = {}
        self.is_registered = False


_reminders = _Reminders()


def _remind() -> None:
    """Name the jobs that were never run; not after an error, nor where it may be meant so."""
    failed, interactive = hasattr(sys, "last_type"), hasattr(sys, "ps1")
    if failed or interactive or launched_rank() or "pytest" in sys.modules:
        return
    processes = sys.modules.get("multiprocessing.process")
    if processes is not None and processes.parent_process() is not None:
        return  # it imported the script for the sake of a function
    built = _reminders.processes.items()
    names = sorted({job.name for job, process in built if process == os.getpid()})
    if names:
        others = f" and {len(names) - _MOST_NAMED} others" if len(names) > _MOST_NAMED else ""
        shown = ", ".join(map(repr, names[:_MOST_NAMED])) + others
        warn(f"the script ended without job.run() of {shown}")
