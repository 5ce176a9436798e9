"""Exit notices: a rank that leaves its script after MPI has started notifies the other ranks.

::

    left with an error     ends the other ranks, unless they leave within a moment, too
    left with success      waits in MPI_Finalize; a rank that then runs a job with it ends
                           all ranks, as it would wait for ever

The notices have their own communicator, which a job creates. Before that, if the script itself
started MPI, a rank watches the processes of the other ranks of its host.
"""

from __future__ import annotations

import sys
import time
from typing import Protocol

from hpcstream.log import complain, flush
from hpcstream.process import siblings

GRACE_S = 2.0
"""How long the other ranks may take to leave, too."""

_PATIENCE_S = 5.0
"""How long a rank that leaves with success receives notices, so that MPI_Finalize finds none."""

_LOOK_EVERY_S = 0.005
_LOOK_AT_PROCESSES_EVERY_S = 0.5


_NOTIFY_ALL_UP_TO = 64
_MOST_NOTIFIED = 8


class World(Protocol):
    """All ranks, as the exit notices see them."""

    rank: int
    size: int

    def notify_exit(self, status: int) -> None:
        """Notify the other ranks that this one leaves with an exit status."""

    def exited_ranks(self) -> dict[int, int] | None:
        """Return the exit status of each rank that has sent a notice.

        None if ranks cannot notify each other.
        """

    def abort(self, code: int) -> None:
        """End all ranks. Does not return."""


def mpi_has_started() -> bool:
    """Whether MPI has started in this process, and is not finalized."""
    mpi = sys.modules.get("mpi4py.MPI")
    return mpi is not None and mpi.Is_initialized() and not mpi.Is_finalized()


def leave(world: World, status: int) -> None:
    """Notify the others; end them after an error, unless they leave as well."""
    if world.size == 1:
        return
    siblings.mark_as_left()
    world.notify_exit(status)
    if not status and world.exited_ranks() is None:
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
    left = world.exited_ranks()
    others = siblings.count_left_siblings() if left is None else len(left)
    return others == world.size - 1


def listeners(size: int) -> range:
    """Return the ranks to notify: all, or a few spread evenly over many."""
    return range(0, size, max(1, -(-size // _MOST_NOTIFIED)) if size > _NOTIFY_ALL_UP_TO else 1)


class ExitWatch:
    """Checks, while this rank waits for others, whether one of them has left.

    Parameters
    ----------
    world : World
    members : set of int
        The ranks of the world that this rank waits for.
    """

    def __init__(self, world: World, members: set[int]) -> None:
        self._world = world
        self._members = members - {world.rank}
        self._looked_s = time.monotonic()
        self._seen_s: float | None = None

    def look(self) -> None:
        """Check; end all ranks if one left a while ago and this one still waits."""
        now_s = time.monotonic()
        left = self._world.exited_ranks()
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
            is_gone = (
                len(self._members) == self._world.size - 1 and siblings.count_left_siblings() > 0
            )
        self._seen_s = now_s if is_gone else None

    def _patience_s(self, left: dict[int, int] | None) -> float:
        """Return how long a rank that left, perhaps with an error, has to end all ranks itself."""
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
