"""Drives one rank of a run: steps it, and yields the core when nothing moves."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from typing import Protocol, TypeVar

_T = TypeVar("_T")

SPINS = 200
"""Turns without a move before the core is yielded, if ranks do not share cores."""
YIELDS = 2000
"""Times the core is yielded before sleeping."""
FIRST_SLEEP_S = 20e-6
_GROWTH = 1.5
FIRST_QUIET_SLEEP_S = 1e-3
LEAST_QUIET_SLEEP_S = 2e-4
"""A round that is due may still wait for other ranks: no reason to spin."""
_QUIET_GROWTH = 3.0


class Resting(Protocol):
    """Decides how a rank may rest, and lets it sleep."""

    @property
    def is_quiet(self) -> bool:
        """Whether no rank of the job has rows."""

    def sleep_limit_s(self) -> float:
        """Return how long the rank may sleep now."""

    def sleep(self, seconds: float) -> bool:
        """Sleep until something comes that the rank waits for; False after all of the time."""


class Backoff:
    """Waits when nothing moves: spins briefly, then yields, then sleeps in growing steps.

    In a quiet job, in which no rank has rows, a rank sleeps at once: messages of an empty
    round are not urgent.

    Parameters
    ----------
    shares_cores : bool
        More ranks than cores: yield at once.
    """

    def __init__(self, *, shares_cores: bool) -> None:
        self._spins = 0 if shares_cores else SPINS
        self._quiet = 0
        self._sleep_s = FIRST_SLEEP_S
        self._quiet_sleep_s = FIRST_QUIET_SLEEP_S

    def reset(self) -> None:
        """Start over: something moved."""
        self._quiet = 0
        self._sleep_s = FIRST_SLEEP_S
        self._quiet_sleep_s = FIRST_QUIET_SLEEP_S

    def wait(self, resting: Resting) -> None:
        """Wait a little, more the longer nothing has moved."""
        self._quiet += 1
        if resting.is_quiet:
            self._rest(resting)
        elif self._quiet <= self._spins:
            return
        elif self._quiet <= self._spins + YIELDS:
            os.sched_yield()
        else:
            time.sleep(min(self._sleep_s, resting.sleep_limit_s()))
            self._sleep_s *= _GROWTH

    def _rest(self, resting: Resting) -> None:
        seconds = min(self._quiet_sleep_s, resting.sleep_limit_s())
        self._quiet_sleep_s *= _QUIET_GROWTH
        if resting.sleep(max(seconds, LEAST_QUIET_SLEEP_S)):
            self.reset()


def drive(running: Generator[bool, None, _T], backoff: Backoff, resting: Resting) -> _T:
    """Step a run to its end and return its result."""
    while True:
        try:
            moved = next(running)
        except StopIteration as stop:
            result: _T = stop.value
            return result
        if moved:
            backoff.reset()
        else:
            backoff.wait(resting)
