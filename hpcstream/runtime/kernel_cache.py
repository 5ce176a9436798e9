"""Compiles the kernels once a host, before the first round, and says so.

Numba keeps compiled kernels on disk (`hpcstream.kernels.cache`). When there are
none for this version, the ranks of a host share the families out, instead of
each compiling all of them in the first rounds.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Generator

from hpcstream.exchange.communicator import Communicator, gather_bytes
from hpcstream.messages import say


def compile_kernels(comm: Communicator) -> Generator[None]:
    """Have every kernel family compiled on each host. Collective; yields while waiting."""
    from hpcstream import kernels

    missing = [] if os.environ.get("NUMBA_DISABLE_JIT") == "1" else kernels.not_compiled()
    own = json.dumps({"host": platform.node(), "missing": missing})
    texts = yield from gather_bytes(comm, own.encode())
    views = [json.loads(text) for text in texts]
    if not any(view["missing"] for view in views):
        return
    started_s = time.monotonic()
    if comm.rank == 0:
        say("compiling the kernels for this machine; once, about half a minute ...")
    neighbours = [r for r, view in enumerate(views) if view["host"] == views[comm.rank]["host"]]
    wanted = sorted({family for r in neighbours for family in views[r]["missing"]})
    kernels.warm_up(wanted[neighbours.index(comm.rank) :: len(neighbours)])
    yield from gather_bytes(comm, b"done")
    if comm.rank == 0:
        say(f"compiled in {time.monotonic() - started_s:.0f} s")
