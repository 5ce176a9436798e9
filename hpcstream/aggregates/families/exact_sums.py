"""Accumulators of float sums without rounding, which are the same in any order of rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from hpcstream.aggregates.accumulator import (
    Accumulator,
    InputRows,
    Targets,
    Values,
    Words,
)
from hpcstream.aggregates.base import Aggregate
from hpcstream.state.arrays import Word

Floats = npt.NDArray[np.float64]

WIDTH = 40
"""Numbers of a sum: 39 limbs and a word of flags, as in `hpcstream.kernels.exact_sums`."""


def _kernels() -> ModuleType:
    from hpcstream.kernels import exact_sums  # loads Numba

    return exact_sums


class MayBeExact(Aggregate):
    """An aggregate of floats with an option to add them without rounding.

    Attributes
    ----------
    exact : bool
    """

    exact: bool

    @property
    def kernels(self) -> frozenset[str]:
        """Those of exact sums, if it uses them."""
        return frozenset({"exact_sums"}) if self.exact else frozenset()

    def order_free(self) -> Aggregate:
        """Return the same with exact sums."""
        own: Any = self
        found: Aggregate = replace(own, exact=True)
        return found


@dataclass(frozen=True)
class ExactSum(Accumulator):
    """The sum of floats without rounding: 320 bytes for each entry."""

    columns: tuple[str, ...]
    takes_ranges: ClassVar[bool] = True

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of state."""
        return (Word(self.word_name("exact_sum"), "int64", 0, WIDTH),)

    def update(self, state: Words, rows: InputRows) -> None:
        """Accumulate rows."""
        bits = rows.floats.view(np.int64)
        bits.setflags(write=False)
        _kernels().add_exactly(rows.slots, bits, state[0].reshape(-1))

    def merge(self, state: Words, slots: Targets, parts: Words) -> None:
        """Merge partial results."""
        merge_sums(state[0], slots, parts[0])


def add_squares(sums: Values, rows: InputRows) -> None:
    """Add the square of each row's value to exact sums."""
    _kernels().add_squares_exactly(rows.slots, rows.floats, sums.reshape(-1))


def merge_sums(sums: Values, slots: Targets, parts: Values) -> None:
    """Add partial exact sums to exact sums."""
    flat = parts.reshape(-1)
    flat.setflags(write=False)
    _kernels().merge_exactly(slots, flat, sums.reshape(-1))


def rounded(sums: Values) -> Floats:
    """Return the float64 nearest to each exact sum, ties to even."""
    kernels = _kernels()
    flat = np.ascontiguousarray(sums).reshape(-1)
    flat.setflags(write=False)
    bits = np.empty(len(sums), dtype=np.int64)
    kernels.round_sums(flat, np.empty(kernels.LIMBS, dtype=np.int64), bits)
    return bits.view(np.float64)


def two_floats(sums: Values) -> tuple[Floats, Floats]:
    """Return two floats whose sum is nearest to each exact sum: its first 106 bits."""
    first = rounded(sums)
    rest = np.array(sums)
    every = np.arange(len(rest), dtype=np.uint32)
    bits = (-first).view(np.int64)
    bits.setflags(write=False)
    _kernels().add_exactly(every, bits, rest.reshape(-1))
    return first, rounded(rest)


def as_integer(limbs: Values) -> int:
    """Return one exact sum, which is finite, as an integer times 2**-1074."""
    kernels = _kernels()
    return sum(int(limb) << kernels.BITS * place for place, limb in enumerate(limbs[:-1]))
