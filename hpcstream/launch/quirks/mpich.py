"""MPICH's launcher lets the other ranks wait in MPI's start for one that is gone.

It is spoken to in the words that MPICH's library would use (PMI-1), without loading it. Where
there is no such launcher to talk to, this rank joins the others in MPI's start, and aborts. Of
ranks on other hosts nothing is known.
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
    symptom="a rank that ends before it starts MPI leaves the others waiting in MPI's start",
    remedy="the rank asks the launcher to end all ranks (launch/exit_hooks.py); `hpcstream run` "
    "looks for such ranks itself (launch/quirks/missing_rank.py)",
    remove_when="mpiexec ends the job when a rank ends before MPI_Init, as Open MPI's does",
)

BARE_SIGNAL_NUMBER = Quirk(
    vendor=MPICH,
    seen="5.0",
    symptom="mpiexec returns the bare number of a signal that has ended a rank: 9 for 137",
    remedy="`hpcstream run` adds 128 (launch/supervise.py)",
    remove_when="mpiexec returns 128 + the number, as a shell does",
)

QUIRKS = (WAITS_FOR_GONE_RANK, BARE_SIGNAL_NUMBER)

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


def end_all_ranks(status: int, end_world: Callable[[int], object]) -> None:
    """End all ranks with an exit status; before MPI has started. Does not return.

    Parameters
    ----------
    end_world : callable
        Starts MPI and ends all ranks with a status: where the launcher cannot be asked.
    """
    flush()
    ask_launcher(status, os.environ)
    # Neither a thread nor a handler of Python's would run while MPI's start waits.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_JOIN_S)
    end_world(status)


def ask_launcher(status: int, environ: Mapping[str, str]) -> None:
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
