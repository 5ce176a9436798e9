"""A rank that leaves its script after MPI has started does not leave the other ranks waiting.

::

    left with an error     the other ranks are ended, unless they leave within a moment, too
    left with success      waits in MPI's end; a rank that then wants to run a job with it
                           ends all, for it would wait for ever

Ranks tell each other that they leave on a communicator of its own, once a job has made one. Before
that, where the script itself has started MPI, a rank sees what the others of its host do.
"""

from __future__ import annotations

import sys
import time
from typing import Protocol

from hpcstream.log import complain, flush
from hpcstream.process import siblings

GRACE_S = 2.0
"""How long the others may take to leave, too."""

_PATIENCE_S = 5.0
"""How long who leaves with success takes in what others say, so that MPI's end finds none of it."""

_LOOK_EVERY_S = 0.005
_LOOK_AT_PROCESSES_EVERY_S = 0.5


_ALL_ARE_TOLD = 64
_MOST_TOLD = 8


class World(Protocol):
    """All ranks, as far as leaving goes."""

    rank: int
    size: int

    def tell(self, status: int) -> None:
        """Tell the other ranks that this one leaves, with this exit status."""

    def who_left(self) -> dict[int, int] | None:
        """Return the ranks that have said that they leave, with what status.

        None if ranks cannot tell each other.
        """

    def abort(self, code: int) -> None:
        """End all ranks. Does not return."""


def mpi_has_started() -> bool:
    """Whether MPI has started in this process, and not ended."""
    mpi = sys.modules.get("mpi4py.MPI")
    return mpi is not None and mpi.Is_initialized() and not mpi.Is_finalized()


def leave(world: World, status: int) -> None:
    """Leave with an exit status; returns if the others leave as well, or with success."""
    if world.size == 1:
        return
    siblings.mark_as_left()
    world.tell(status)
    if not status and world.who_left() is None:
        return
    give_up_s = time.monotonic() + (GRACE_S if status else _PATIENCE_S)
    while not _all_left(world):
        if time.monotonic() > give_up_s:
            break
        time.sleep(_LOOK_EVERY_S)
    else:
        return
    if not status:
        return  # to wait in MPI's end
    complain(
        f"rank {world.rank} left the script with status {status}, others did not: ending all ranks"
    )
    flush()
    world.abort(status)


def _all_left(world: World) -> bool:
    left = world.who_left()
    others = siblings.others_who_left() if left is None else len(left)
    return others == world.size - 1


def listeners(size: int) -> range:
    """Return the ranks that are told who leaves: all, or a few spread evenly over many."""
    return range(0, size, max(1, -(-size // _MOST_TOLD)) if size > _ALL_ARE_TOLD else 1)


class Vigil:
    """Looks, while this rank waits for all others, whether one of them has left.

    Parameters
    ----------
    world : World
    members : set of int
        The ranks of the world that are waited for.
    """

    def __init__(self, world: World, members: set[int]) -> None:
        self._world = world
        self._members = members - {world.rank}
        self._looked_s = time.monotonic()
        self._seen_s: float | None = None

    def look(self) -> None:
        """Look; end all ranks if one has left for a while, and this one still waits."""
        now_s = time.monotonic()
        left = self._world.who_left()
        if self._seen_s is not None:
            if now_s - self._seen_s > self._patience_s(left):
                self._end(left or {})
            return
        if left is not None:
            is_gone = not self._members.isdisjoint(left)
        elif now_s - self._looked_s < _LOOK_AT_PROCESSES_EVERY_S:
            return
        else:
            self._looked_s = now_s
            is_gone = len(self._members) == self._world.size - 1 and siblings.others_who_left() > 0
        self._seen_s = now_s if is_gone else None

    def _patience_s(self, left: dict[int, int] | None) -> float:
        """Return how long one that left with an error, or perhaps, has to end all itself."""
        if left is None:
            return 2 * GRACE_S
        return GRACE_S if not any(left.values()) else 4 * GRACE_S

    def _end(self, left: dict[int, int]) -> None:
        gone = self._members.intersection(left)
        who = f"rank {min(gone)}" if gone else "another rank"
        complain(
            f"rank {self._world.rank} waits in job.run(), but {who} has left the script: "
            "ending all ranks"
        )
        flush()
        self._world.abort(max(left.values(), default=0) or 1)
