"""Session windows: rows of a key that follow one another closely."""

from __future__ import annotations

from dataclasses import dataclass

from hpcstream.operators.windows.assigners.base import WindowAssigner
from hpcstream.operators.windows.assigners.slicing import Slicing, uniform
from hpcstream.stable_keys import Key


@dataclass(frozen=True)
class SessionWindows(WindowAssigner):
    """Sessions of a key: neighbouring rows of one are less than ``gap`` apart.

    A session begins with its first row, and ends ``gap`` after its last.

    Raises
    ------
    ValueError
        ``gap`` is not positive.
    """

    gap: int
    merges = True
    kernels = frozenset({"sessions"})

    def __post_init__(self) -> None:
        if self.gap <= 0:
            raise ValueError(f"{self}: gap must be positive")

    def slicing(self) -> Slicing:
        """Return slices of a gap: all rows of a key in one of them are of one session."""
        return uniform(self.gap, self.gap, 0)

    def key(self) -> list[Key]:
        """Return the gap."""
        return ["session", self.gap]

    def state_key(self) -> list[Key]:
        """Return the gap."""
        return self.key()

    def describe_retention(self) -> str:
        """Return until when a session is kept."""
        return "until the gap after the last row is over"
