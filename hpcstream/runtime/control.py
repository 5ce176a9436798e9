"""Control rounds: all ranks agree without stopping.

At control round *c(i)* every rank posts its status. The outcome, the maximum of all
statuses, takes effect at *c(i+1)*, which no rank begins before it has the outcome: so the
time of day, the greatest of all ranks, is the same for all of them in each round. The same
outcome fixes *c(i+2)*, 1 to 64 rounds later, aiming at 50 ms by the measure of the slowest
rank. So a decision costs no waiting, and is the same on every rank.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hpcstream.exchange.communicator import Communicator, Request

AIM_US = 50_000
MOST_ROUNDS = 64
CLOCK_US = 50_000
"""The time that the ranks agree on is a multiple of this."""


class Status(NamedTuple):
    """One rank's report, or the maximum of all. Integers; a flag is 0 or 1.

    ``busy``: a bounded source has rows, which no live one may keep waiting. ``stop`` is the
    exit status to stop with, ``checkpoint`` the kind of checkpoint that is due, ``unready``
    puts it off: see `hpcstream.runtime.checkpoints.schedule`. ``splits``: rank 0 has found
    new splits. ``pending``: an operator has results left although no source has rows.
    ``clock_us`` is the time of day of a rank with operators that use it; others have 0.
    """

    has_input: int = 0
    failed: int = 0
    stop: int = 0
    metrics_due: int = 0
    checkpoint: int = 0
    unready: int = 0
    busy: int = 0
    splits: int = 0
    round_us: int = 0
    pending: int = 0
    clock_us: int = 0


N_FIELDS = len(Status._fields)


def rounds_until_next(round_us: int) -> int:
    """Return how many rounds the next control interval has; 1 while no rank has measured any."""
    if round_us <= 0:
        return 1
    return max(1, min(MOST_ROUNDS, AIM_US // max(round_us, 1)))


class ControlGate:
    """Agrees on `Status` at control rounds and limits how far sources may go.

    Parameters
    ----------
    comm : Communicator
        Private to control.

    Attributes
    ----------
    now_us : int
        The time of day from the last boundary on, the same on all ranks; 0: no operator uses it.
    """

    def __init__(self, comm: Communicator) -> None:
        self._comm = comm
        self._send = np.zeros(N_FIELDS, dtype=np.int64)
        self._receive = np.zeros(N_FIELDS, dtype=np.int64)
        self._request: Request | None = None
        self._outcome: Status | None = None
        self.boundary = 0
        self.end_round: int | None = None
        self.now_us = 0

    def open(self, status: Status) -> None:
        """Post the status of control round 0. Collective."""
        self._post(status)
        self.boundary = 1

    def _post(self, status: Status) -> None:
        self._send[:] = status
        self._outcome = None
        self._request = self._comm.all_reduce(self._send, self._receive, "max")

    @property
    def is_closed(self) -> bool:
        """Whether the last round is known."""
        return self.end_round is not None

    def may_start(self, round_number: int) -> bool:
        """Return whether a source may begin this round."""
        return round_number < self.boundary

    def poll(self) -> bool:
        """Return whether the last outcome has arrived."""
        if self._outcome is None and self._request is not None and self._request.test():
            self._outcome = Status(*self._receive.tolist())
        return self._outcome is not None

    def pass_boundary(self, status: Status) -> Status:
        """Let the outcome take effect and post the next status; return the outcome.

        Call when `poll` is true and this rank's sources have closed every round
        before ``boundary``.
        """
        outcome = self._outcome
        assert outcome is not None, "the outcome of the last control round has not arrived"
        self.now_us = max(self.now_us, outcome.clock_us // CLOCK_US * CLOCK_US)
        is_over = not (outcome.has_input or outcome.pending)
        if outcome.failed or outcome.stop or is_over:
            self.end_round = self.boundary
            return outcome
        self._post(status)
        self.boundary += rounds_until_next(outcome.round_us) if outcome.has_input else 1
        return outcome
