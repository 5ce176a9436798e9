"""A rank that leaves its script does not leave the other ranks waiting.

Before MPI starts; afterwards it is the business of `hpcstream.process.farewell`.

::

    left with an error      the other ranks are ended: Open MPI's launcher does so, MPICH's is asked
    left with success       waits until the other ranks of this host have left, too, or stand in
                            MPI's start, where they would wait for ever: then it ends them

MPICH's launcher is spoken to in the words that MPICH's library would use (PMI-1), without
loading it. Where there is no such launcher to talk to, this rank joins the others in MPI's
start, and aborts. Of ranks on other hosts nothing is known.
"""

from __future__ import annotations

import atexit
import builtins
import os
import select
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NoReturn

from hpcstream.log import complain, flush
from hpcstream.process import family, farewell, siblings
from hpcstream.process.launcher_facts import ALLOW_SINGLETONS
from hpcstream.process.world import mpi_has_started, reached

_HELLO = b"cmd=init pmi_version=1 pmi_subversion=1\n"
_ANSWER_S = 2.0
_LOOK_EVERY_S = 0.5
_JOIN_S = 10
"""How long the others may take to come to MPI's start before they are left alone."""


def would_be_waited_for(environ: Mapping[str, str]) -> bool:
    """Return whether the launcher lets the other ranks wait in MPI's start for one that is gone."""
    if "OMPI_COMM_WORLD_SIZE" in environ:
        return False
    size = environ.get("PMI_SIZE", "")
    return size.isdecimal() and int(size) > 1


def end_all_ranks(status: int) -> None:
    """End all ranks with an exit status; before MPI has started. Does not return."""
    flush()
    _ask_launcher(status, os.environ)
    # Neither a thread nor a handler of Python's would run while MPI's start waits.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_JOIN_S)
    end_world(status)


def end_world(status: int) -> None:
    """End every rank at once; does nothing where this process is alone."""
    world = reached()
    if world.size > 1:
        world.abort(status)


def _ask_launcher(status: int, environ: Mapping[str, str]) -> None:
    """Have MPICH's launcher end all ranks, this one too; returns if it does not."""
    if not environ.get("PMI_FD", "").isdecimal():
        return
    pipe = int(environ["PMI_FD"])
    with suppress(OSError):
        os.write(pipe, _HELLO)
        answered, _, _ = select.select([pipe], [], [], _ANSWER_S)
        if answered and b"rc=0" in os.read(pipe, 1024):
            os.write(pipe, f"cmd=abort exitcode={status}\n".encode())
            time.sleep(_ANSWER_S)  # it kills us


def watch_exit(environ: Mapping[str, str] = os.environ) -> None:
    """Have leaving the script not leave others waiting.

    At exit Python no longer tells the status, so ``sys.exit`` is wrapped to note it. Does
    nothing where no launcher of several ranks started this process.
    """
    size = environ.get("OMPI_COMM_WORLD_SIZE") or environ.get("PMI_SIZE", "")
    if not size.isdecimal() or int(size) < 2 or getattr(sys.exit, "is_watched", False):
        return
    leave, statuses = sys.exit, [0]

    def watched(status: Any = None, /) -> NoReturn:
        statuses[:] = [family.exit_number(status)]
        family.note_exit(statuses[0])
        leave(status)

    watched.is_watched = True  # type: ignore[attr-defined]
    sys.exit = watched
    for name in ("exit", "quit"):  # of an interactive Python, which scripts use all the same
        if hasattr(builtins, name):
            setattr(builtins, name, watched)
    atexit.register(_at_exit, statuses, environ, os.getpid())


def _at_exit(statuses: list[int], environ: Mapping[str, str], process: int) -> None:
    if os.getpid() != process:  # a child that it has forked
        return
    (status,) = statuses
    if mpi_has_started():
        farewell.leave(reached(), status or _status_of_error())
    elif "mpi4py.MPI" in sys.modules:
        return
    elif status and would_be_waited_for(environ):
        _say(f"left the script with status {status} before job.run(), where the other ranks wait")
        end_all_ranks(status)
    elif not status and not hasattr(sys, "last_type") and environ.get(ALLOW_SINGLETONS) != "1":
        leave_together(environ)


def _status_of_error() -> int:
    """Return 1 if an error has left the script here, and not on all ranks together."""
    error = getattr(sys, "last_value", None)
    alone = error is not None and not getattr(error, "agreed_by_all_ranks", False)
    return int(alone and not hasattr(sys, "ps1"))


def end_after_error(error: BaseException) -> None:
    """End the other ranks if they would wait for this one, which an error has made leave."""
    status = 130 if isinstance(error, KeyboardInterrupt) else 1
    if mpi_has_started():
        flush()
        end_world(status)
    elif would_be_waited_for(os.environ):
        end_all_ranks(status)


def leave_together(environ: Mapping[str, str]) -> None:
    """Wait until no rank of this host can come to wait for this one; end those that do."""
    siblings.mark_as_left()
    while others := siblings.others_here():
        if any(map(siblings.is_in_mpi, others)):
            _say("left the script before job.run(), where others wait")
            if would_be_waited_for(environ):
                end_all_ranks(1)
            os._exit(1)  # Open MPI's launcher ends the others
        time.sleep(_LOOK_EVERY_S)


def _say(what: str) -> None:
    complain(f"this rank {what} for it; ending all ranks")
