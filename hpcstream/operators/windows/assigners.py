"""Window assigners: which windows a time belongs to, in plain integers.

Times, sizes and offsets are counts of the stream's own unit. A window is a
union of *slices* of ``gcd(size, slide)``: slice ``s`` covers ``[offset + s *
slice_size, offset + (s + 1) * slice_size)``, window ``j`` starts at ``offset + j
* slide``. Rows are added to their slice once; windows are made from slices.

::

    size 6, slide 4     slices  |0 |1 |2 |3 |4 |5 |6 |   of 2
                        windows |---0----|
                                      |---1----|
                                            |---2----|
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Protocol


class WindowAssigner(Protocol):
    """The interface of window assigners. All attributes are constant."""

    @property
    def size(self) -> int:
        """Length of a window."""

    @property
    def slide(self) -> int:
        """Distance between the starts of two windows."""

    @property
    def offset(self) -> int:
        """Start of window 0."""


@dataclass(frozen=True)
class TumblingWindows:
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
    def slide(self) -> int:
        """The size: each window starts where the previous one ends."""
        return self.size


@dataclass(frozen=True)
class SlidingWindows:
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


@dataclass(frozen=True)
class Slicing:
    """The arithmetic of slices and windows of one assigner.

    Attributes
    ----------
    slice_size : int
        ``gcd(size, slide)``.
    per_window, per_slide : int
        Slices in a window, and between the starts of two windows.
    """

    size: int
    slide: int
    offset: int
    slice_size: int
    per_window: int
    per_slide: int

    @classmethod
    def of(cls, assigner: WindowAssigner) -> Slicing:
        """Return the slicing of an assigner."""
        step = gcd(assigner.size, assigner.slide)
        return cls(
            size=assigner.size,
            slide=assigner.slide,
            offset=assigner.offset % assigner.slide,
            slice_size=step,
            per_window=assigner.size // step,
            per_slide=assigner.slide // step,
        )

    @property
    def is_tumbling(self) -> bool:
        """Whether every window is one slice."""
        return self.per_window == 1

    def slice_of(self, time: int) -> int:
        """Return the number of the slice that contains a time."""
        return (time - self.offset) // self.slice_size

    def slice_start(self, number: int) -> int:
        """Return the first time of a slice."""
        return self.offset + number * self.slice_size

    def slice_end(self, number: int) -> int:
        """Return the first time after a slice."""
        return self.offset + (number + 1) * self.slice_size

    def window_start(self, window: int) -> int:
        """Return the first time of a window."""
        return self.offset + window * self.slide

    def window_end(self, window: int) -> int:
        """Return the first time after a window."""
        return self.offset + window * self.slide + self.size

    def slices_of(self, window: int) -> range:
        """Return the numbers of the slices of a window."""
        first = window * self.per_slide
        return range(first, first + self.per_window)

    def windows_of(self, number: int) -> range:
        """Return the windows that contain a slice."""
        first = -((self.per_window - 1 - number) // self.per_slide)
        return range(first, number // self.per_slide + 1)

    def last_end_of(self, number: int) -> int:
        """Return the end of the last window that contains a slice."""
        return self.window_end(number // self.per_slide)

    def next_window(self, watermark: int) -> int:
        """Return the first window that ends after ``watermark``: all earlier ones are complete."""
        return (watermark - self.offset - self.size) // self.slide + 1

    def first_open_slice(self, watermark: int) -> int:
        """Return the first slice with a window that ends after ``watermark``."""
        return self.next_window(watermark) * self.per_slide

    def first_unfinished_slice(self, watermark: int) -> int:
        """Return the first slice that itself ends after ``watermark``."""
        return (watermark - self.offset) // self.slice_size
