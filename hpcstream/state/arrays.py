"""What the state of windows is made of: kinds of arrays, words, and who gives the memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Slots = npt.NDArray[np.uint32]
Bools = npt.NDArray[np.bool_]
Arrays = Mapping[str, npt.NDArray[Any]]
AnySlots = Slots | range
"""Slots of entries; a range if they are known to be contiguous."""

NO_NULLS: Bools = np.zeros(0, dtype=np.bool_)
NO_NULLS.setflags(write=False)
NO_COUNTS: Ints = np.zeros(0, dtype=np.int64)
NO_COUNTS.setflags(write=False)
NONE: Ints = np.zeros(0, dtype=np.int64)


class Allocator(Protocol):
    """Where arenas come from; `hpcstream.memory.pool.BufferPool` is one."""

    def empty(self, n: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return a writable array with anything in it."""


class HeapAllocator:
    """Arenas from NumPy's own memory, for tests."""

    def empty(self, n: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return a writable array with anything in it."""
        return np.empty(n, dtype=dtype)


@dataclass(frozen=True)
class Word:
    """One value of state per entry, or an array of some.

    Attributes
    ----------
    name : str
        Unique within a store; names the array in snapshots.
    dtype : str
        NumPy's name of its type.
    identity : int or float
        What a new entry holds.
    width : int
        How many numbers an entry has; of a wide word it is more than 1. The state of a wide
        word is an array of shape ``(entries, width)``.
    """

    name: str
    dtype: str
    identity: int | float
    width: int = 1

    @property
    def kind(self) -> np.dtype[Any]:
        """NumPy's type of what an entry holds."""
        return np.dtype(self.dtype if self.width == 1 else (self.dtype, (self.width,)))

    @property
    def bits(self) -> np.int64:
        """What a new entry holds, as the bits of an int64."""
        return np.int64(np.array([self.identity], dtype=self.dtype).view(np.int64)[0])


def as_range(slots: Slots) -> AnySlots:
    """Return the slots of a region, which mostly ascend, as a range where they are one."""
    first = int(slots[0]) if len(slots) else 0
    if len(slots) and int(slots[-1]) - first + 1 == len(slots) and (np.diff(slots) == 1).all():
        return range(first, first + len(slots))
    return slots


def values_at(array: npt.NDArray[Any], slots: AnySlots) -> npt.NDArray[Any]:
    """Return what ``array`` holds for some entries, read-only; a view of it if they are a range."""
    values = array[slots.start : slots.stop] if isinstance(slots, range) else array[slots]
    values.setflags(write=False)
    return values


def read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array's values in one piece, not to be written to."""
    view = np.ascontiguousarray(array).view()
    view.setflags(write=False)
    return view
