"""How the load changes with time: clocks that run faster and slower than the real one.

A paced stream gives out rows by a clock, so a clock that stands still is a pause, and one that
runs at eight times the speed a burst. On average each keeps the time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from hpcstream import generators as g

Clock = Callable[[], float]
LOADS = ("constant", "random", "burst")

_STEP_S = 0.1
_STEPS = 600


def clock(load: str, *, period_s: float = 1.0, duty: float = 0.125, seed: int = 7) -> Clock:
    """Return the clock of a load.

    Parameters
    ----------
    load : {"constant", "random", "burst"}
        Random: each tenth of a second has a rate of its own, up to twice the average.
    period_s, duty : float
        Of bursts: all rows of a period come in this part of it.

    Raises
    ------
    ValueError
        Another load, or a part that is not between 0 and 1.
    """
    if load == "constant":
        return time.monotonic
    if load == "random":
        speeds = g.unit_floats(g.random_bits(0, _STEPS, g.column_seed(seed, "load")))
        return ShapedClock(np.full(_STEPS, _STEP_S), speeds)
    if load != "burst" or not 0 < duty <= 1 or period_s <= 0:
        raise ValueError(f"load {load!r}, period {period_s} s, duty {duty}: expected {LOADS}")
    return ShapedClock(np.array([duty, 1.0 - duty]) * period_s, np.array([1.0, 0.0]))


@dataclass
class ShapedClock:
    """A clock whose speed repeats after all its steps; it starts when it is first asked.

    Attributes
    ----------
    steps : float64[n]
        Seconds that each speed lasts.
    speeds : float64[n]
        In proportion; the average is made 1.
    now : callable
        The real clock.
    """

    steps: np.ndarray
    speeds: np.ndarray
    now: Clock = time.monotonic
    _start: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._real = np.concatenate([[0.0], np.cumsum(self.steps)])
        shown = np.concatenate([[0.0], np.cumsum(self.steps * self.speeds)])
        self._shown = shown / shown[-1] * self._real[-1]

    def __call__(self) -> float:
        """Return the seconds since the start, as this clock shows them."""
        if self._start is None:
            self._start = self.now()
        turns, rest = divmod(self.now() - self._start, self._real[-1])
        return float(turns * self._real[-1] + np.interp(rest, self._real, self._shown))
