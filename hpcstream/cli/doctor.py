"""``hpcstream doctor``: what this machine and MPI offer to a job."""

from __future__ import annotations

import argparse
import os
import pickle
import sys
from dataclasses import replace

from hpcstream.cli.run import start
from hpcstream.launch.quirks.openmpi import quick_start
from hpcstream.launch.quirks.registry import describe
from hpcstream.log import OUT
from hpcstream.process.launcher_facts import Launch, launches, mpi_of_library


def doctor(options: argparse.Namespace) -> int:
    """Print the report on rank 0; with ``-n``, on that many ranks."""
    if options.ranks > 1:
        program = [sys.executable, "-m", "hpcstream", "doctor"]
        return start(program, options.ranks, options.launcher)
    os.environ.update(quick_start(os.environ) if not launches(os.environ) else {})
    report = _report()
    if report is not None:
        OUT.write(report)
    return 0


def _report() -> str | None:
    """Gather the facts of all ranks; return the report on rank 0, else None. Collective."""
    # Imported here, as it starts MPI.
    from hpcstream.exchange.communicator import complete, gather_bytes
    from hpcstream.exchange.mpi import communicator, mpi_facts
    from hpcstream.exchange.shared_messages import find_nearby
    from hpcstream.host.report import MpiFacts, examine_rank, report

    comm = communicator()
    nearby = complete(find_nearby(comm))
    near = frozenset(nearby.peers) if nearby else frozenset()
    own = replace(examine_rank(comm.rank), near=near)
    seen = complete(gather_bytes(comm, pickle.dumps(own)))
    comm.free()
    if comm.rank != 0:
        return None
    facts = mpi_facts()
    launch = _own_launch(facts["library"])
    mpi = MpiFacts(
        library=facts["library"].splitlines()[0].split(",")[0],
        standard=facts["standard"],
        launcher=launch.launcher if launch else "",
        n_ranks=facts["world_size"],
        started_ranks=launch.size if launch else None,
    )
    found = report(mpi, [pickle.loads(rank) for rank in seen])
    return f"{found}\n{describe(mpi_of_library(facts['library']))}"


def _own_launch(library: str) -> Launch | None:
    """Return the launcher of the library's own MPI, else any launcher."""
    found = launches(os.environ)
    own = [launch for launch in found if launch.mpi == mpi_of_library(library)]
    return next(iter([*own, *found]), None)
