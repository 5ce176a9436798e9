"""How long to wait before something that failed is tried again."""

from __future__ import annotations

_LONGEST_WAIT = 1 << 10


class Patience:
    """How many slices are closed before it is tried again to find a better layout for them.

    Looking reads every key; each time in vain the wait becomes twice as long.

    Attributes
    ----------
    wait, left : int
        How long the wait is that came last, and how much of it is left.
    """

    def __init__(self) -> None:
        self.wait = self.left = 0

    def is_over(self, n_closed: int) -> bool:
        """Note closed slices; return whether it is time to look."""
        self.left -= n_closed
        return self.left <= 0

    def lost(self) -> None:
        """Note that it was in vain, or did not last."""
        self.wait = min(2 * self.wait + 1, _LONGEST_WAIT)
        self.left = self.wait
