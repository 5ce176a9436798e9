"""A rank that leaves its script before MPI starts, with an error, ends the other ranks.

Open MPI's launcher does that by itself. MPICH's lets the others wait in MPI's start for
ever, for one that is gone: so this rank asks the launcher to end the job, in the words
that MPICH's library would use (PMI-1), without loading it. Where there is no such launcher
to talk to, it joins the others in MPI's start, and aborts.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NoReturn

_HELLO = b"cmd=init pmi_version=1 pmi_subversion=1\n"
_ANSWER_S = 2.0
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
    sys.stdout.flush()
    sys.stderr.flush()
    _ask_launcher(status, os.environ)
    # Neither a thread nor a handler of Python's would run while MPI's start waits.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_JOIN_S)
    from hpcstream.exchange import mpi

    mpi.abort_world(status)


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
    """Have ``sys.exit`` with an error end the other ranks, as long as MPI has not started.

    At exit Python no longer tells the status, so ``sys.exit`` is wrapped to note it. Does
    nothing where the launcher ends the others, or none started this process.
    """
    if not would_be_waited_for(environ) or getattr(sys.exit, "is_watched", False):
        return
    leave, statuses = sys.exit, [0]

    def watched(status: Any = None, /) -> NoReturn:
        statuses[:] = [_as_number(status)]
        leave(status)

    watched.is_watched = True  # type: ignore[attr-defined]
    sys.exit = watched
    atexit.register(_at_exit, statuses)


def _as_number(status: Any) -> int:
    """Return what a shell will see of an argument of ``sys.exit``."""
    if status is None:
        return 0
    return status & 0xFF if isinstance(status, int) else 1


def _at_exit(statuses: list[int]) -> None:
    (status,) = statuses
    if status and "mpi4py.MPI" not in sys.modules:
        print(
            f"hpcstream: this rank left the script with status {status} before job.run(), where "
            "the other ranks wait for it; ending all ranks",
            file=sys.stderr,
        )
        end_all_ranks(status)
