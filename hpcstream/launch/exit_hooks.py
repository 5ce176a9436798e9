"""Exit hooks: a rank that leaves its script does not leave other ranks waiting.

::

    before MPI has started
        with an error      the other ranks are ended: Open MPI's launcher does so, MPICH's is asked
        with success       waits until the other ranks of this host have left, too, or are in
                           MPI_Init, where they would wait for ever: then it ends them
    afterwards             `hpcstream.process.exit_notice`

The first job of a process installs the hooks; the import of hpcstream does not, unless `EXIT_HOOKS`
is set, as ``hpcstream run`` does for its ranks: this covers scripts that exit before they build a
job.
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
from hpcstream.process import exit_notice, family, siblings
from hpcstream.process.exit_notice import World, mpi_has_started
from hpcstream.process.failure import exit_status_of, failure_of
from hpcstream.process.first_report import wait_to_report
from hpcstream.process.tracebacks import to_be_shown

_LOOK_EVERY_S = 0.5
_MOST_NAMED = 3


def install() -> None:
    """Install all exit hooks: for forks, exits and errors."""
    family.watch_forks()
    watch_exit()
    install_excepthook()


# -- errors --------------------------------------------------------------------------------


def install_excepthook(*, around_others: bool = False) -> None:
    """Install a hook that shortens the traceback of an error in the script and ends other ranks.

    Parameters
    ----------
    around_others : bool
        Whether to wrap a hook of other code; otherwise that hook stays.
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
    shortened = to_be_shown(error)
    shell.showtraceback((kind, shortened, shortened.__traceback__), tb_offset=tb_offset)


class Hook:
    """Ends the whole job when an error leaves the script on one rank of several.

    Otherwise the other ranks would wait for ever in their next collective, or in MPI_Init.
    After an error that all ranks have agreed on, each ends by itself.
    """

    def __init__(self, before: Callable[..., object]) -> None:
        self._before = before
        self._process = os.getpid()

    def __call__(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        """Show the error; once if several ranks fail alike."""
        if os.getpid() != self._process:  # a forked child
            self._before(kind, error, trace)
            return
        failure = failure_of(error)
        if not failure.is_agreed:
            wait_to_report(os.environ)
        if not failure.is_shown:
            self._before(kind, error, to_be_shown(error).__traceback__)
        flush()
        if not failure.is_agreed:
            end_after_error(error)
        if exit_status_of(error) != 1:
            raise SystemExit(exit_status_of(error))


def end_after_error(error: BaseException) -> None:
    """End the other ranks if they would wait for this one, which leaves with an error."""
    status = 130 if isinstance(error, KeyboardInterrupt) else 1
    if mpi_has_started():
        flush()
        _end_world(status)
    elif mpich.would_block_others(os.environ):
        mpich.end_all_ranks(status, _end_world)


# -- sys.exit, and the end of the script ---------------------------------------------------


def watch_exit(environ: Mapping[str, str] = os.environ) -> None:
    """Watch how the script ends.

    At exit Python no longer reports the status, so ``sys.exit`` is wrapped to record it. Does
    nothing unless a launcher of several ranks started this process.
    """
    size = environ.get("OMPI_COMM_WORLD_SIZE") or environ.get("PMI_SIZE", "")
    if not size.isdecimal() or int(size) < 2 or isinstance(sys.exit, WatchedExit):
        return
    watched = WatchedExit(sys.exit)
    sys.exit = watched
    for name in ("exit", "quit"):  # of interactive Python; scripts use them, too
        if hasattr(builtins, name):
            setattr(builtins, name, watched)
    atexit.register(_at_exit, watched, environ, os.getpid())


class WatchedExit:
    """``sys.exit`` that records its status."""

    def __init__(self, leave: Callable[[Any], NoReturn]) -> None:
        self._leave = leave
        self.status = 0

    def __call__(self, status: Any = None, /) -> NoReturn:
        """Leave the script."""
        self.status = family.exit_number(status)
        family.note_exit(self.status)
        self._leave(status)


def _at_exit(watched: WatchedExit, environ: Mapping[str, str], process: int) -> None:
    if os.getpid() != process:  # a forked child
        return
    status = watched.status
    if mpi_has_started():
        exit_notice.leave(_world(), status or _status_of_error())
    elif "mpi4py.MPI" in sys.modules:
        return
    elif status and mpich.would_block_others(environ):
        _complain_that_rank(
            f"left the script with status {status} before job.run(), where the other ranks wait"
        )
        mpich.end_all_ranks(status, _end_world)
    elif not status and not hasattr(sys, "last_type") and environ.get(ALLOW_SINGLETONS) != "1":
        leave_together(environ)


def _status_of_error() -> int:
    """Return 1 if an error has ended the script on this rank alone."""
    error = getattr(sys, "last_value", None)
    alone = error is not None and not failure_of(error).is_agreed
    return int(alone and not hasattr(sys, "ps1"))


def leave_together(environ: Mapping[str, str]) -> None:
    """Wait until no rank of this host can start to wait for this one; end those that do."""
    siblings.mark_as_left()
    while others := siblings.siblings_here():
        if any(map(siblings.is_in_mpi, others)):
            _complain_that_rank("left the script before job.run(), where others wait")
            if mpich.would_block_others(environ):
                mpich.end_all_ranks(1, _end_world)
            os._exit(1)  # Open MPI's launcher ends the others
        time.sleep(_LOOK_EVERY_S)


def _complain_that_rank(what: str) -> None:
    complain(f"this rank {what} for it; ending all ranks")


def _end_world(status: int) -> None:
    """End every rank at once; do nothing if this process is alone."""
    world = _world()
    if world.size > 1:
        world.abort(status)


def _world() -> World:
    """Return all ranks; starts MPI if it has not started."""
    from hpcstream.exchange import mpi

    return mpi.world()


# -- jobs that are never run ---------------------------------------------------------------


class Reminder:
    """Names a job with sinks at the end of the script if it was never run.

    Keeps no reference to the job, which may be freed by then.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def set(self) -> None:
        """Name the job at exit."""
        if not _reminders.is_registered:
            _reminders.is_registered = True
            atexit.register(_remind)
        _reminders.processes[self] = os.getpid()

    def clear(self) -> None:
        """Do not name the job: it is run, or inspected."""
        _reminders.processes.pop(self, None)


class _Reminders:
    """The jobs not run yet, with the process that built each: children have copies."""

    def __init__(self) -> None:
        self.processes: dict[Reminder, int] = {}
        self.is_registered = False


_reminders = _Reminders()


def _remind() -> None:
    """Warn of jobs that were never run; not after an error, nor where that may be intended."""
    failed, interactive = hasattr(sys, "last_type"), hasattr(sys, "ps1")
    if failed or interactive or launched_rank() or "pytest" in sys.modules:
        return
    processes = sys.modules.get("multiprocessing.process")
    if processes is not None and processes.parent_process() is not None:
        return  # a child of multiprocessing, which imported the script
    built = _reminders.processes.items()
    names = sorted({job.name for job, process in built if process == os.getpid()})
    if names:
        others = f" and {len(names) - _MOST_NAMED} others" if len(names) > _MOST_NAMED else ""
        shown = ", ".join(map(repr, names[:_MOST_NAMED])) + others
        warn(f"the script ended without job.run() of {shown}")
