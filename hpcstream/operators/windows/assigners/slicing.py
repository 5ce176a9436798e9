"""Slices and windows: where slices lie on the time axis, and which of them make up a window.

A `Slicing` has two parts. The *grid* cuts event time into numbered slices; the *layout*
says, in numbers of slices alone, of which slices each window is the union::

    grid       UniformGrid        slices of one length
               CalendarGrid       days, weeks, months of a time zone
    layout     SlidingLayout      all windows have as many slices
               CumulativeLayout   a window begins where its period begins

Any grid goes with any layout. A row is added to its slice once; windows are made from slices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from hpcstream.state.arrays import Ints


class SliceGrid(ABC):
    """Where the slices lie on the time axis.

    A table of slices does not ask the grid for each row: it computes ``floor((t -
    store_offset) / store_size)`` of what `store_times` makes of event times.

    Attributes
    ----------
    store_size, store_offset : int
    """

    store_size: int = 1
    store_offset: int = 0

    def store_times(self, times: Ints) -> Ints:
        """Return event times as the table of slices divides them."""
        return times

    def numbers_of(self, times: Ints) -> Ints:
        """Return the number of the slice of each time."""
        return (self.store_times(times) - self.store_offset) // self.store_size

    @abstractmethod
    def number_at(self, watermark: int) -> int:
        """Return the slice that contains a time, which may be the end of all times."""

    @abstractmethod
    def starts_of(self, numbers: Ints) -> Ints:
        """Return the first time of each slice: the end of the one before."""


@dataclass(frozen=True)
class UniformGrid(SliceGrid):
    """Slices of ``store_size``; slice 0 begins at ``store_offset``."""

    store_size: int
    store_offset: int = 0

    def number_at(self, watermark: int) -> int:
        """Return the slice that contains a time."""
        return (watermark - self.store_offset) // self.store_size

    def starts_of(self, numbers: Ints) -> Ints:
        """Return the first time of each slice."""
        return self.store_offset + numbers * self.store_size


class WindowLayout(ABC):
    """Of which slices each window is the union. Windows are numbered in the order of their ends.

    Attributes
    ----------
    most_slices : int
        In a window.
    """

    most_slices: int

    @abstractmethod
    def slices_of(self, window: int) -> range:
        """Return the slices of a window."""

    @abstractmethod
    def windows_of(self, number: int) -> range:
        """Return the windows that contain a slice."""

    @abstractmethod
    def ranges_of(self, windows: Ints) -> tuple[Ints, Ints]:
        """Return the first slice of each window, and the first one after it."""


@dataclass(frozen=True)
class SlidingLayout(WindowLayout):
    """Windows of ``most_slices`` slices, one beginning every ``per_slide`` slices.

    ::

        2 slices a window, 1 a slide    slices  |0 |1 |2 |3 |
                                        windows |--0--|
                                                   |--1--|
    """

    most_slices: int
    per_slide: int

    def slices_of(self, window: int) -> range:
        """Return the slices of a window."""
        first = window * self.per_slide
        return range(first, first + self.most_slices)

    def windows_of(self, number: int) -> range:
        """Return the windows that contain a slice."""
        first = -((self.most_slices - 1 - number) // self.per_slide)
        return range(first, number // self.per_slide + 1)

    def ranges_of(self, windows: Ints) -> tuple[Ints, Ints]:
        """Return the first slice of each window, and the first one after it."""
        firsts = windows * self.per_slide
        return firsts, firsts + self.most_slices


@dataclass(frozen=True)
class CumulativeLayout(WindowLayout):
    """Windows that begin with their period and end with one of its slices, which numbers them.

    ::

        3 slices a period    slices  |0 |1 |2 |3 |4 |5 |
                             windows |0-|     |3-|
                                     |--1--|  |--4--|
                                     |---2----|---5----|
    """

    most_slices: int

    def slices_of(self, window: int) -> range:
        """Return the slices of a window."""
        return range(window - window % self.most_slices, window + 1)

    def windows_of(self, number: int) -> range:
        """Return the windows that contain a slice."""
        return range(number, number - number % self.most_slices + self.most_slices)

    def ranges_of(self, windows: Ints) -> tuple[Ints, Ints]:
        """Return the first slice of each window, and the first one after it."""
        return windows - windows % self.most_slices, windows + 1


@dataclass(frozen=True)
class Slicing:
    """The slices and windows of one assigner."""

    grid: SliceGrid
    layout: WindowLayout

    @property
    def is_tumbling(self) -> bool:
        """Whether every window is one slice."""
        return self.layout.most_slices == 1

    def bounds(self, windows: Ints) -> tuple[Ints, Ints]:
        """Return the first time of each window, and the first one after it."""
        firsts, stops = self.layout.ranges_of(windows)
        return self.grid.starts_of(firsts), self.grid.starts_of(stops)

    def first_unfinished_slice(self, watermark: int) -> int:
        """Return the first slice that ends after ``watermark``."""
        return self.grid.number_at(watermark)

    def next_window(self, watermark: int) -> int:
        """Return the first window that ends after ``watermark``: lesser ones are complete."""
        return self.layout.windows_of(self.grid.number_at(watermark)).start

    def first_open_slice(self, watermark: int) -> int:
        """Return the first slice with a window that ends after ``watermark``."""
        return self.layout.slices_of(self.next_window(watermark)).start

    def store_end(self, window: int) -> int:
        """Return the end of a window as the table of slices counts time."""
        return self.grid.store_offset + self.layout.slices_of(window).stop * self.grid.store_size


def uniform(size: int, slide: int, offset: int) -> Slicing:
    """Return windows of ``size``, one every ``slide``, made of slices of their common divisor.

    ::

        size 6, slide 4     slices  |0 |1 |2 |3 |4 |5 |6 |   of 2
                            windows |---0----|
                                          |---1----|
                                                |---2----|
    """
    step = int(np.gcd(size, slide))
    grid = UniformGrid(step, offset % slide)
    return Slicing(grid, SlidingLayout(size // step, slide // step))
