"""Arrays, words and allocators of state: what tables of state are made of."""

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
"""Slots of entries; a range if they are known to be consecutive."""

NO_NULLS: Bools = np.zeros(0, dtype=np.bool_)
NO_NULLS.setflags(write=False)
NO_COUNTS: Ints = np.zeros(0, dtype=np.int64)
NO_COUNTS.setflags(write=False)
NONE: Ints = np.zeros(0, dtype=np.int64)


class Allocator(Protocol):
    """Allocates arenas; `hpcstream.memory.pool.BufferPool` is one."""

    def empty(self, n: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return a writable, uninitialized array."""


class HeapAllocator:
    """Allocates arenas with NumPy, for tests."""

    def empty(self, n: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return a writable, uninitialized array."""
        return np.empty(n, dtype=dtype)


@dataclass(frozen=True)
class Word:
    """One value of state per entry, or an array of values.

    Attributes
    ----------
    name : str
        Unique within a store; names the array in snapshots.
    dtype : str
        NumPy's name of its type.
    identity : int or float
        What a new entry holds.
    width : int
        Numbers per entry; more than 1 for a wide word. The state of a wide word is an array
        of shape ``(entries, width)``.
    """

    name: str
    dtype: str
    identity: int | float
    width: int = 1

    @property
    def kind(self) -> np.dtype[Any]:
        """The NumPy type of an entry."""
        return np.dtype(self.dtype if self.width == 1 else (self.dtype, (self.width,)))

    @property
    def bits(self) -> np.int64:
        """The value of a new entry, as the bits of an int64."""
        return np.int64(np.array([self.identity], dtype=self.dtype).view(np.int64)[0])


def as_range(slots: Slots) -> AnySlots:
    """Return slots as a range if they are consecutive, as those of a region mostly are."""
    first = int(slots[0]) if len(slots) else 0
    if len(slots) and int(slots[-1]) - first + 1 == len(slots) and (np.diff(slots) == 1).all():
        return range(first, first + len(slots))
    return slots


def values_at(array: npt.NDArray[Any], slots: AnySlots) -> npt.NDArray[Any]:
    """Return the values of some entries, read-only; a view of ``array`` if they are a range."""
    values = array[slots.start : slots.stop] if isinstance(slots, range) else array[slots]
    values.setflags(write=False)
    return values


def read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a contiguous, read-only view of an array, or a copy."""
    view = np.ascontiguousarray(array).view()
    view.setflags(write=False)
    return view
