"""Compiles the kernels once a host, before the first round, and says how far it is.

Numba keeps compiled kernels on disk (`hpcstream.kernels.cache`). When there are
none for this version, the ranks of a host share the families out, instead of
each compiling all of them in the first rounds; cores without a rank help.
"""

from __future__ import annotations

import heapq
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable, Sequence

from hpcstream.exchange.agree import raise_together
from hpcstream.exchange.communicator import Communicator, gather_bytes
from hpcstream.log import say

_SAY_EVERY_S = 3.0
_HELP = "import sys; from hpcstream.kernels import warm_up; warm_up(sys.argv[1:])"


def compile_kernels(comm: Communicator) -> Generator[None]:
    """Have every kernel family compiled on each host. Collective; yields while waiting.

    Raises
    ------
    Exception
        What failed here, or `RemoteError`: no rank waits for one that could not compile.
    """
    missing: list[str] = []
    error = None
    try:
        missing = _missing()
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
    meter = Meter(say if comm.rank == 0 else _say_nothing)
    meter.begin()
    neighbours = [r for r, view in enumerate(views) if view["host"] == views[comm.rank]["host"]]
    wanted = {family for r in neighbours for family in views[r]["missing"]}
    place, n_ranks = neighbours.index(comm.rank), len(neighbours)
    n_shares = max(n_ranks, *(views[r]["cores"] for r in neighbours))
    shares = shared_out(wanted, n_shares)
    try:
        yield from compile_shares(shares[place], shares[n_ranks + place :: n_ranks], meter.look)
    except Exception as failure:
        error = failure
    yield from raise_together(error, comm)
    if comm.rank == 0:
        say(f"compiled in {time.monotonic() - started_s:.0f} s")


def _missing() -> list[str]:
    from hpcstream import kernels

    return [] if os.environ.get("NUMBA_DISABLE_JIT") == "1" else list(kernels.not_compiled())


def shared_out(families: Iterable[str], n_shares: int) -> list[list[str]]:
    """Deal families so that all shares take about as long: the longest first, to the least."""
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
) -> Generator[None]:
    """Compile one share here and others in processes beside; yields between families.

    Parameters
    ----------
    own : sequence of str
    others : sequence of sequence of str
        A process each, unless it is empty; compiled here where none can be started.
    look : callable
        Called now and then.
    """
    from hpcstream import kernels

    helpers, here = [], list(own)
    try:
        for share in filter(None, others):
            try:
                helpers.append((share, _helper(share)))
            except OSError:  # a limit of processes
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
            kernels.warm_up(sorted(left))  # what the process could not
    finally:
        for _, process in helpers:
            process.kill()
            process.wait()


def _helper(families: Sequence[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", _HELP, *families]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


class Meter:
    """Says how many families are compiled on this host, every few seconds.

    Parameters
    ----------
    tell : callable
        Takes the text.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._told_s = time.monotonic()
        self._n_told = -1

    def begin(self) -> None:
        """Say that compiling begins."""
        self._tell("compiling the kernels for this machine, once; about half a minute ...")

    def look(self) -> None:
        """Say how far it is, if that has changed and a few seconds have passed."""
        now_s = time.monotonic()
        if now_s < self._told_s + _SAY_EVERY_S:
            return
        from hpcstream import kernels

        n_all = len(kernels.FAMILIES)
        n_done = n_all - len(kernels.not_compiled())
        self._told_s = now_s
        if n_done != self._n_told:
            self._n_told = n_done
            self._tell(f"compiling: {n_done} of {n_all} families of kernels are done")


def _say_nothing(_: str) -> None:
    """Leave it to rank 0."""
