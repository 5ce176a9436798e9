"""Decides when a checkpoint is due: by the interval, on request, and only once memory is ready."""

from __future__ import annotations

from collections.abc import Callable

from hpcstream.checkpoint.storage.directory import CHECKPOINT, SAVEPOINT, CheckpointStore
from hpcstream.runtime.checkpoints.prefaulting import Prefaulting
from hpcstream.runtime.control import Status

DUE, SAVEPOINT_DUE = 1, 2
"""Values of `Status.checkpoint`."""
STOP_AFTER_SAVEPOINT = 1
"""Value of `Status.stop`: stop with a savepoint, because the user asked for one."""

_LOOK_EVERY_S = 0.5


class CheckpointSchedule:
    """Asks for checkpoints on rank 0, and knows on every rank whether one would make rounds wait.

    Parameters
    ----------
    rank : int
    interval_s : float
        Between the beginnings of two checkpoints.
    store : CheckpointStore
        Holds the requests of `hpcstream checkpoint`.
    prefaulting : Prefaulting
    clock : callable
        Seconds, monotonic.

    Attributes
    ----------
    wants_stop : int
        The status to stop with; 0: nobody asked for that.
    """

    def __init__(
        self,
        rank: int,
        interval_s: float,
        store: CheckpointStore,
        prefaulting: Prefaulting,
        clock: Callable[[], float],
    ) -> None:
        self.wants_stop = 0
        self._rank = rank
        self._interval_s = interval_s
        self._store = store
        self._prefaulting = prefaulting
        self._clock = clock
        self._asked_s: float | None = None
        self._due_s = clock() + interval_s
        self._look_s = clock()
        self._wants_savepoint = False
        prefaulting.schedule(interval_s)

    def want_savepoint(self, *, stop: bool) -> None:
        """Take a savepoint as soon as possible; ``stop``: and end the job with it."""
        if stop:
            self.wants_stop = STOP_AFTER_SAVEPOINT
        else:
            self._wants_savepoint = True

    def wanted(self) -> int:
        """Return, on rank 0, which checkpoint is due; only while none is under way."""
        self._prefaulting.poll()
        if self._rank or self._asked_s is not None:
            return 0
        now_s = self._clock()
        if now_s >= self._look_s:
            self._look_s = now_s + _LOOK_EVERY_S
            self._look_for_request()
        kind = SAVEPOINT_DUE if self._wants_savepoint else DUE
        if kind == DUE and (now_s < self._due_s or self.is_unready):
            return 0
        self._wants_savepoint = False
        self._asked_s = now_s
        return kind

    @property
    def is_unready(self) -> bool:
        """Whether the memory for a copy is not ready yet; asked after `wanted`."""
        return self._prefaulting.is_under_way

    def _look_for_request(self) -> None:
        request = self._store.take_request()
        if request is not None:
            self.want_savepoint(stop=bool(request.get("stop")))

    def agreed(self, outcome: Status) -> str | None:
        """Return the kind of checkpoint that the ranks have agreed on; None: it is put off.

        Each rank that is not ready puts a checkpoint off, but not a savepoint.
        """
        asked_s, self._asked_s = self._asked_s, None
        if outcome.checkpoint == DUE and outcome.unready:
            return None
        if asked_s is not None:
            self._due_s = asked_s + self._interval_s
        return SAVEPOINT if outcome.checkpoint == SAVEPOINT_DUE else CHECKPOINT

    def begun(self) -> None:
        """Note that a checkpoint has begun: memory for the next one is wanted later."""
        self._prefaulting.schedule(self._interval_s)
