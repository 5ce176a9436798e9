"""Faults of MPICH: its launcher lets the other ranks wait in MPI_Init for one that is gone.

This rank speaks PMI-1 to the launcher, as the library of MPICH would, without loading it. Without
such a launcher, this rank joins the others in MPI_Init, and aborts. The state of ranks on other
hosts is unknown.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from hpcstream.launch.quirks.quirk import Quirk
from hpcstream.log import flush
from hpcstream.process.launcher_facts import MPICH

WAITS_FOR_GONE_RANK = Quirk(
    vendor=MPICH,
    seen="5.0",
    symptom="a rank that ends before it starts MPI leaves the others waiting in MPI_Init",
    remedy="the rank asks the launcher to end all ranks (launch/exit_hooks.py); `hpcstream run` "
    "looks for such ranks itself (launch/quirks/missing_rank.py)",
    remove_when="mpiexec ends the job when a rank ends before MPI_Init, as Open MPI's does",
)

BARE_SIGNAL_NUMBER = Quirk(
    vendor=MPICH,
    seen="5.0",
    symptom="mpiexec returns the bare number of a signal that ended a rank: 9 instead of 137",
    remedy="`hpcstream run` adds 128 (launch/supervise.py)",
    remove_when="mpiexec returns 128 + the number, as a shell does",
)

QUIRKS = (WAITS_FOR_GONE_RANK, BARE_SIGNAL_NUMBER)

_HELLO = b"cmd=init pmi_version=1 pmi_subversion=1\n"
_ANSWER_S = 2.0
_JOIN_S = 10
"""How long the others may take to reach MPI_Init."""


def would_block_others(environ: Mapping[str, str]) -> bool:
    """Return whether the other ranks would wait in MPI_Init for this one if it ended now."""
    if "OMPI_COMM_WORLD_SIZE" in environ:
        return False
    size = environ.get("PMI_SIZE", "")
    return size.isdecimal() and int(size) > 1


def end_all_ranks(status: int, end_world: Callable[[int], object]) -> None:
    """End all ranks with an exit status, before MPI has started. Does not return.

    Parameters
    ----------
    end_world : callable
        Starts MPI and ends all ranks with a status: the fallback.
    """
    flush()
    ask_launcher(status, os.environ)
    # While MPI_Init waits, neither Python threads nor Python signal handlers run.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_JOIN_S)
    end_world(status)


def ask_launcher(status: int, environ: Mapping[str, str]) -> None:
    """Ask MPICH's launcher to end all ranks, this one included; return if it does not."""
    if not environ.get("PMI_FD", "").isdecimal():
        return
    pipe = int(environ["PMI_FD"])
    with suppress(OSError):
        os.write(pipe, _HELLO)
        answered, _, _ = select.select([pipe], [], [], _ANSWER_S)
        if answered and b"rc=0" in os.read(pipe, 1024):
            os.write(pipe, f"cmd=abort exitcode={status}\n".encode())
            time.sleep(_ANSWER_S)  # the launcher kills this rank
