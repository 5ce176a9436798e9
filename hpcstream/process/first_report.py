"""Which rank reports an error of the script that all ranks may share: the first to fail.

The first rank of a host that fails claims a name, reports its error and ends the job; the others
find the name claimed, or a rank gone, and wait to be ended. The name belongs to a socket in Linux's
abstract namespace, so it vanishes with the process. On hosts other than the first, a rank waits
before it reports.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

from hpcstream.log import launched_rank
from hpcstream.process import siblings

_LOCAL_RANKS = ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")
_LOCAL_SIZES = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")
_JOBS = (("PMIX_NAMESPACE",), ("SLURM_JOB_ID", "SLURM_STEP_ID"))

TO_BE_ENDED_S = 3.0
"""How long a rank waits to be ended by the reporting rank, before it reports, too."""

_OTHER_HOST_S = 2.0

_held: list[int] = []
"""The descriptor whose socket has the name that this process has claimed.

Nobody closes it: the interpreter closes `socket` objects when it ends, and the process goes on for
a while, in which another rank would find neither the name claimed nor a rank gone.
"""


def wait_to_report(environ: Mapping[str, str]) -> None:
    """Return when this rank may report its error: at once, unless another rank reports."""
    rank = launched_rank(environ)
    locals_ = [environ[name] for name in _LOCAL_RANKS if environ.get(name, "").isdecimal()]
    if not locals_:
        if rank:  # an unknown launcher: rank 0 reports
            time.sleep(TO_BE_ENDED_S)
        return
    if not _claims(_name(environ)) or siblings.has_ended_sibling(_local_size(environ)):
        time.sleep(TO_BE_ENDED_S)
    elif int(locals_[0]) != rank:  # perhaps on another host
        time.sleep(_OTHER_HOST_S)


def _local_size(environ: Mapping[str, str]) -> int:
    found = [environ[name] for name in _LOCAL_SIZES if environ.get(name, "").isdecimal()]
    return int(found[0]) if found else 0


def _claims(name: str) -> bool:
    """Claim a name for this process; False if another process has it."""
    own = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        own.bind(f"\0{name}")
    except OSError:
        own.close()
        return False
    _held.append(own.detach())
    return True


def _name(environ: Mapping[str, str]) -> str:
    """Return a name that the ranks of this job on this host share."""
    for variables in _JOBS:
        if all(variable in environ for variable in variables):
            job = "-".join(environ[variable] for variable in variables)
            return f"hpcstream-error-{os.getuid()}-{job}"
    return f"hpcstream-error-{os.getuid()}-{os.getppid()}"
