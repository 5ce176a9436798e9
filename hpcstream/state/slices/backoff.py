"""Backoff of searches that failed."""

from __future__ import annotations

_LONGEST_WAIT = 1 << 10


class Backoff:
    """The number of slices to close before the next search for a better layout.

    A search reads every key. Each search that fails doubles the wait.

    Attributes
    ----------
    wait, left : int
        The last wait, and how much of it is left.
    """

    def __init__(self) -> None:
        self.wait = self.left = 0

    def due(self, n_closed: int) -> bool:
        """Count closed slices; return whether the wait is over."""
        self.left -= n_closed
        return self.left <= 0

    def failed(self) -> None:
        """Note that the search found nothing, or that what it found did not last."""
        self.wait = min(2 * self.wait + 1, _LONGEST_WAIT)
        self.left = self.wait
