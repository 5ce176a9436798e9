"""Detects a rank that ended before it started MPI, while the other ranks wait for it.

MPICH's launcher takes such a rank for a program without MPI, and lets the others wait for ever. A
rank that has built a job handles this itself (`hpcstream.launch.exit_hooks`); this module covers
ranks that end before.

::

    launcher -- proxy -- rank 0    has loaded MPI: waits in MPI_Init
                      -- rank 1    existed at one look, without MPI; at the next it is gone

A rank may load MPI, work and end within a moment. So the looks are close together; if they are not
(this process was stopped meanwhile), they prove nothing, and the ranks are left to wait: a working
job must not be ended.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from hpcstream.process.launcher_facts import children_of, parent_of
from hpcstream.process.siblings import is_in_mpi, is_rank

LOOK_EVERY_S = 0.05
WAITED_FOR_S = 5.0
"""How long the others may be in MPI before they count as waiting."""

_CLOSE_S = 0.15
_WATCH_S = 120.0


class MissingRank:
    """Watches the ranks of a launcher on this host until all of them have loaded MPI."""

    def __init__(self, launcher: int, *, is_watching: bool = True) -> None:
        self._launcher = launcher
        self._begun_s = self._looked_s = time.monotonic()
        self._without: set[int] = set()
        self._gone_s: float | None = None
        self.is_watching = is_watching

    def look(self) -> bool:
        """Look at the ranks; return whether they wait for a missing rank."""
        if not self.is_watching:
            return False
        now = time.monotonic()
        ranks = set(_ranks_below(self._launcher))
        inside = {pid for pid in ranks if is_in_mpi(Path("/proc", str(pid)))}
        self._note(ranks, inside, now)
        if self._gone_s is None:
            started = bool(ranks) and ranks == inside
            self.is_watching = not started and now - self._begun_s < _WATCH_S
            return False
        return bool(inside) and now - self._gone_s > WAITED_FOR_S

    def _note(self, ranks: set[int], inside: set[int], now: float) -> None:
        # The list of children may omit one while another ends.
        gone = [pid for pid in self._without - ranks if parent_of(pid) is None]
        if gone and now - self._looked_s < _CLOSE_S and self._gone_s is None:
            self._gone_s = now
        self._without, self._looked_s = ranks - inside, now


def has_ranks(launcher: int) -> bool:
    """Whether a launcher has ranks on this host."""
    return next(_ranks_below(launcher), None) is not None


def has_started_mpi(launcher: int) -> bool:
    """Whether a rank on this host has loaded MPI; True if no rank is visible."""
    ranks = list(_ranks_below(launcher))
    return not ranks or any(is_in_mpi(Path("/proc", str(pid))) for pid in ranks)


def _ranks_below(process: int) -> Iterator[int]:
    """Yield the ranks among the children of a launcher and of its helpers, not their children."""
    for child in children_of(process):
        if is_rank(Path("/proc", str(child))):
            yield child
        else:
            yield from _ranks_below(child)
