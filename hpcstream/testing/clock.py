"""A clock that a test advances."""

from __future__ import annotations


class ManualClock:
    """A clock that only the test advances; pass it to `run_ranks` or `start_ranks`.

    Parameters
    ----------
    now_s : float
        Start time.
    turn_s : float
        What passes by itself with every turn of a rank: 0 for a clock that only
        `advance` moves; some microseconds to let a live job run in virtual time.
    """

    def __init__(self, now_s: float = 0.0, *, turn_s: float = 0.0) -> None:
        self.now_s = now_s
        self.turn_s = turn_s

    def __call__(self) -> float:
        """Return the current time."""
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Advance the clock.

        Raises
        ------
        ValueError
            ``seconds`` is negative.
        """
        if seconds < 0:
            raise ValueError(f"advance({seconds!r}): time does not go back")
        self.now_s += seconds

    def end_turn(self) -> None:
        """Advance by ``turn_s``; the simulation calls it after every turn of a rank."""
        self.now_s += self.turn_s
