"""Sums of squares without rounding, and squared deviations from the mean computed from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from hpcstream.aggregates.accumulator import Accumulator, InputRows, Targets, Values, Words
from hpcstream.aggregates.families.exact_sums import (
    WIDTH,
    Floats,
    add_squares,
    as_integer,
    merge_sums,
    two_floats,
)
from hpcstream.state.arrays import Word

Ints = npt.NDArray[np.int64]

_SPLITTER = 2.0**27 + 1
_UNIT_BITS = 1074  # exact sums are integers times 2**-1074
_CANCELLED = 2.0**-40
_LEAST_SQUARES = 2.0**-800  # of less, the second float of a product may be rounded


@dataclass(frozen=True)
class ExactSquares(Accumulator):
    """The sum of squares without rounding: 320 bytes for each entry.

    A square is the sum of two floats. It is infinite from about 1.3e154 on, and of values below
    about 1e-146 its last bits are rounded; the sum has the same bits in any order all the same.
    """

    columns: tuple[str, ...]
    takes_ranges: ClassVar[bool] = True

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of state."""
        return (Word(self.word_name("exact_squares"), "int64", 0, WIDTH),)

    def update(self, state: Words, rows: InputRows) -> None:
        """Accumulate rows."""
        add_squares(state[0], rows)

    def merge(self, state: Words, slots: Targets, parts: Words) -> None:
        """Merge partial results."""
        merge_sums(state[0], slots, parts[0])


def _product_error(a: Floats, b: Floats, product: Floats) -> Floats:
    """Return ``a * b - product`` without rounding, by Dekker's method."""
    a_scaled, b_scaled = a * _SPLITTER, b * _SPLITTER
    a_high, b_high = a_scaled - (a_scaled - a), b_scaled - (b_scaled - b)
    a_low, b_low = a - a_high, b - b_high
    error: Floats = a_high * b_high - product + a_high * b_low + a_low * b_high + a_low * b_low
    return error


def squared_deviations(n_values: Ints, sums: Values, squares: Values) -> Floats:
    """Return the sum of squared deviations from the mean for each entry.

    It is computed in pairs of floats, and in integers where most of their digits cancel out.
    NaN for infinite values.
    """
    total, square = two_floats(sums), two_floats(squares)
    with np.errstate(all="ignore"):
        found = _in_pairs(n_values.astype(np.float64), total, square)
        is_sure = (found > square[0] * _CANCELLED) & (square[0] > _LEAST_SQUARES)
    found[n_values <= 1] = 0.0
    for entry in np.flatnonzero(~is_sure & (n_values > 1)):
        if np.isfinite(square[0][entry]):
            parts = as_integer(sums[entry]), as_integer(squares[entry])
            found[entry] = _in_integers(int(n_values[entry]), *parts)
    found[np.isinf(square[0])] = np.inf
    found[~np.isfinite(total[0])] = np.nan
    return found


def _in_pairs(
    n_values: Floats, total: tuple[Floats, Floats], square: tuple[Floats, Floats]
) -> Floats:
    """Return ``square - total**2 / n_values``, of unevaluated sums of two floats."""
    product = total[0] * total[0]
    rest = _product_error(total[0], total[0], product) + 2 * total[0] * total[1]
    mean = product / n_values
    back = mean * n_values
    mean_rest = (product - back - _product_error(mean, n_values, back) + rest) / n_values
    difference = square[0] - mean
    other = difference - square[0]
    error = (square[0] - (difference - other)) - (mean + other)
    found: Floats = difference + (error + square[1] - mean_rest)
    return found


def _in_integers(n_values: int, total: int, square: int) -> float:
    """Return the same of integers times 2**-1074, rounded once."""
    numerator = ((n_values * square) << _UNIT_BITS) - total * total
    try:
        return max(numerator, 0) / (n_values << 2 * _UNIT_BITS)
    except OverflowError:
        return float("inf")
