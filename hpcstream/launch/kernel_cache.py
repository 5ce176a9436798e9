"""Compiles the kernels of a job once a host, before the first round, and reports the progress.

Numba caches compiled kernels on disk (`hpcstream.kernels.cache`). If the cache has none for this
version, the ranks of a host divide the kernel families, instead of each compiling all of them in
the first rounds; cores without a rank help.
"""

from __future__ import annotations

import heapq
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence

from hpcstream.exchange.agree import raise_together
from hpcstream.exchange.communicator import Communicator, Procedure, gather_bytes
from hpcstream.log import say

_REPORT_EVERY_S = 3.0
_HELP = "import sys; from hpcstream.kernels import warm_up; warm_up(sys.argv[1:])"


def compile_kernels(comm: Communicator, on_demand: Iterable[str]) -> Procedure[None]:
    """Compile the kernel families of a job on each host. Collective; yields while waiting.

    Parameters
    ----------
    comm : Communicator
    on_demand : iterable of str
        The families that the job needs beside those that any job may call
        (`hpcstream.kernels.ON_DEMAND`).

    Raises
    ------
    Exception
        The error of this rank, or `RemoteError`: no rank waits for one that cannot compile.
    """
    missing: list[str] = []
    error = None
    try:
        missing = _missing(on_demand)
    except Exception as failure:
        error = failure
    yield from raise_together(error, comm)
    n_cores = len(os.sched_getaffinity(0))
    own = json.dumps({"host": platform.node(), "missing": missing, "cores": n_cores})
    texts = yield from gather_bytes(comm, own.encode())
    views = [json.loads(text) for text in texts]
    if not any(view["missing"] for view in views):
        return
    started_s = time.monotonic()
    neighbours = [r for r, view in enumerate(views) if view["host"] == views[comm.rank]["host"]]
    wanted = {family for r in neighbours for family in views[r]["missing"]}
    progress = CompileProgress(say if comm.rank == 0 else _discard, wanted)
    progress.begin()
    local_rank, n_ranks = neighbours.index(comm.rank), len(neighbours)
    n_shares = max(n_ranks, *(views[r]["cores"] for r in neighbours))
    shares = balanced_shares(wanted, n_shares)
    try:
        yield from compile_shares(
            shares[local_rank], shares[n_ranks + local_rank :: n_ranks], progress.look
        )
    except Exception as failure:
        error = failure
    yield from raise_together(error, comm)
    if comm.rank == 0:
        say(f"compiled in {time.monotonic() - started_s:.0f} s")


def _missing(on_demand: Iterable[str]) -> list[str]:
    from hpcstream import kernels

    if os.environ.get("NUMBA_DISABLE_JIT") == "1":
        return []
    unwanted = kernels.ON_DEMAND.difference(on_demand)
    return [family for family in kernels.not_compiled() if family not in unwanted]


def balanced_shares(families: Iterable[str], n_shares: int) -> list[list[str]]:
    """Divide families into shares of about equal cost: the most expensive first, greedily."""
    from hpcstream.kernels import COSTS, OTHER_COST

    loads: list[tuple[float, int]] = [(0.0, number) for number in range(n_shares)]
    shares: list[list[str]] = [[] for _ in range(n_shares)]
    for family in sorted(families, key=lambda name: (-COSTS.get(name, OTHER_COST), name)):
        load, number = heapq.heappop(loads)
        shares[number].append(family)
        heapq.heappush(loads, (load + COSTS.get(family, OTHER_COST), number))
    return shares


def compile_shares(
    own: Sequence[str], others: Sequence[Sequence[str]], look: Callable[[], None]
) -> Procedure[None]:
    """Compile one share here and the others in child processes; yields between families.

    Parameters
    ----------
    own : sequence of str
    others : sequence of sequence of str
        One process each, unless empty; compiled here if no process can be started.
    look : callable
        Called periodically.
    """
    from hpcstream import kernels

    helpers, here = [], list(own)
    try:
        for share in filter(None, others):
            try:
                helpers.append((share, _helper(share)))
            except OSError:  # a limit on processes
                here += share
        for family in here:
            kernels.warm_up([family])
            look()
            yield
        for share, process in helpers:
            while process.poll() is None:
                look()
                time.sleep(0.02)
                yield
            left = set(kernels.not_compiled()).intersection(share)
            kernels.warm_up(sorted(left))  # what the process failed to compile
    finally:
        for _, process in helpers:
            process.kill()
            process.wait()


def _helper(families: Sequence[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", _HELP, *families]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


class CompileProgress:
    """Reports how many families are compiled on this host, every few seconds.

    Parameters
    ----------
    report : callable
        Called with the text.
    families : collection of str
        Those to compile.
    """

    def __init__(self, report: Callable[[str], None], families: Collection[str]) -> None:
        self._report = report
        self._families = frozenset(families)
        self._reported_s = time.monotonic()
        self._n_reported = -1

    def begin(self) -> None:
        """Report the start."""
        self._report("compiling the kernels for this machine, once; about half a minute ...")

    def look(self) -> None:
        """Report progress, if there is any and a few seconds have passed."""
        now_s = time.monotonic()
        if now_s < self._reported_s + _REPORT_EVERY_S:
            return
        from hpcstream import kernels

        n_all = len(self._families)
        n_done = n_all - len(self._families.intersection(kernels.not_compiled()))
        self._reported_s = now_s
        if n_done != self._n_reported:
            self._n_reported = n_done
            self._report(f"compiling: {n_done} of {n_all} kernel families are done")


def _discard(_: str) -> None:
    """Leave the report to rank 0."""
