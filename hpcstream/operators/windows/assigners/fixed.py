"""Window assigners of fixed length: tumbling, sliding and cumulating windows.

Times, sizes and offsets are counts of the stream's own unit.
"""

from __future__ import annotations

from dataclasses import dataclass

from hpcstream.operators.windows.assigners.base import WindowAssigner
from hpcstream.operators.windows.assigners.slicing import (
    CumulativeLayout,
    Slicing,
    UniformGrid,
    uniform,
)
from hpcstream.stable_keys import Key


class _Regular(WindowAssigner):
    """Windows of ``size``, one starting every ``slide``."""

    size: int
    slide: int
    offset: int

    def slicing(self) -> Slicing:
        """Return slices of the greatest common divisor."""
        return uniform(self.size, self.slide, self.offset)

    def key(self) -> list[Key]:
        """Return size, slide and offset."""
        return [self.size, self.slide, self.offset]

    def state_key(self) -> list[Key]:
        """Return size, slide and offset of the first window."""
        return [self.size, self.slide, self.offset % self.slide]


@dataclass(frozen=True)
class TumblingWindows(_Regular):
    """Windows of ``size`` that neither overlap nor leave gaps.

    Raises
    ------
    ValueError
        ``size`` is not positive.
    """

    size: int
    offset: int = 0

    def __post_init__(self) -> None:
        if self.size <= 0:
            raise ValueError(f"{self}: size must be positive")

    @property
    def slide(self) -> int:  # type: ignore[override]
        """The size: each window starts where the previous one ends."""
        return self.size

    def describe_retention(self) -> str:
        """Return that slices leave with their window."""
        return "until the window ends"


@dataclass(frozen=True)
class SlidingWindows(_Regular):
    """Windows of ``size``, one starting every ``slide``.

    Raises
    ------
    ValueError
        ``size`` or ``slide`` is not positive, or ``slide`` leaves gaps.
    """

    size: int
    slide: int
    offset: int = 0

    def __post_init__(self) -> None:
        if self.size <= 0 or self.slide <= 0:
            raise ValueError(f"{self}: size and slide must be positive")
        if self.slide > self.size:
            raise ValueError(
                f"{self}: slide exceeds size by {self.slide - self.size}, so rows would fall "
                "between windows; filter before windowing if that is meant"
            )

    @property
    def overlaps(self) -> bool:  # type: ignore[override]
        """Whether a row is in several windows."""
        return self.slide < self.size

    def describe_retention(self) -> str:
        """Return that a slice leaves with the last window that holds it."""
        return "until the last window with them ends"


@dataclass(frozen=True)
class CumulativeWindows(WindowAssigner):
    """Windows that begin with a period of ``size`` and end after one of its steps.

    Raises
    ------
    ValueError
        ``size`` is not a whole number of steps.
    """

    size: int
    step: int
    offset: int = 0
    only_changed: bool = False
    overlaps = True

    def __post_init__(self) -> None:
        if self.size <= 0 or self.step <= 0 or self.size % self.step:
            raise ValueError(f"{self}: size must be a whole number of steps")

    def slicing(self) -> Slicing:
        """Return slices of a step."""
        grid = UniformGrid(self.step, self.offset % self.size)
        return Slicing(grid, CumulativeLayout(self.size // self.step))

    def key(self) -> list[Key]:
        """Return size, step, offset, and whether only changes have results."""
        return ["cumulative", self.size, self.step, self.offset, self.only_changed]

    def state_key(self) -> list[Key]:
        """Return size, step and offset of the first period."""
        return ["cumulative", self.size, self.step, self.offset % self.size]

    def describe_retention(self) -> str:
        """Return that slices leave with their period."""
        return "until the period ends"
