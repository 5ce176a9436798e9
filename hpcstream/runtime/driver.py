"""Drives one rank of a run: steps it, and yields the core when nothing moves."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator
from typing import TypeVar

_T = TypeVar("_T")

SPINS = 200
"""Looks without a move before the core is given away, if ranks do not share cores."""
YIELDS = 2000
"""Times the core is given away before sleeping."""
FIRST_SLEEP_S = 20e-6


class Backoff:
    """What to do when nothing moves: spin briefly, then yield, then sleep in growing steps.

    Parameters
    ----------
    shares_cores : bool
        More ranks than cores: yield at once.
    """

    def __init__(self, *, shares_cores: bool) -> None:
        self._spins = 0 if shares_cores else SPINS
        self._quiet = 0
        self._sleep_s = FIRST_SLEEP_S

    def reset(self) -> None:
        """Something moved."""
        self._quiet = 0
        self._sleep_s = FIRST_SLEEP_S

    def wait(self, sleep_limit_s: Callable[[], float]) -> None:
        """Wait a little, more the longer nothing has moved."""
        self._quiet += 1
        if self._quiet <= self._spins:
            return
        if self._quiet <= self._spins + YIELDS:
            os.sched_yield()
            return
        time.sleep(min(self._sleep_s, sleep_limit_s()))
        self._sleep_s *= 1.5


def drive(
    running: Generator[bool, None, _T], backoff: Backoff, sleep_limit_s: Callable[[], float]
) -> _T:
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
            backoff.wait(sleep_limit_s)
