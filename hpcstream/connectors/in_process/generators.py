"""Columns of made-up data: each value is a pure function of seed and row number.

So a generated stream can be dealt to any number of ranks, read from any position and
repeated, and is always the same.

>>> from hpcstream.connectors import generators as g
>>> spec = {
...     "time": g.times(per_second=1_000_000, unit="ms", disorder="500ms"),
...     "key": g.integers(0, 10_000),
...     "value": g.uniform(0.0, 1.0),
... }
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hpcstream.columns.event_time import Duration, TimeUnit
from hpcstream.connectors.files.time_bounds import Bounds

Rows = npt.NDArray[np.uint64]

_INT64 = pa.int64()
_FLOAT64 = pa.float64()
_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15


class ColumnGenerator(Protocol):
    """One column of a generated stream."""

    @property
    def type(self) -> pa.DataType:
        """Of the column."""

    def values(self, start: int, n_rows: int, seed: int, stride: int = 1) -> pa.Array:
        """Return the values of rows ``start``, ``start + stride``, ..., ``n_rows`` of them."""


def random_bits(start: int, n_rows: int, seed: int, stride: int = 1) -> Rows:
    """Return 64 well-mixed bits for each row: SplitMix64's output function at a counter.

    Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators", figure 15.
    """
    first = (seed + start * _GOLDEN + _GOLDEN) & _MASK
    bits = np.arange(n_rows, dtype=np.uint64)
    bits *= np.uint64(stride * _GOLDEN & _MASK)
    bits += np.uint64(first)
    shifted = bits >> np.uint64(30)
    bits ^= shifted
    bits *= np.uint64(0xBF58476D1CE4E5B9)
    bits ^= np.right_shift(bits, np.uint64(27), out=shifted)
    bits *= np.uint64(0x94D049BB133111EB)
    bits ^= np.right_shift(bits, np.uint64(31), out=shifted)
    return bits


def below(bits: Rows, n: int) -> Rows:
    """Return integers from 0 to ``n - 1``, uniform but for a bias of at most n / 2**64."""
    if n <= 2**32:
        return ((bits >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32)
    return bits if n == 2**64 else bits % np.uint64(n)


def unit_floats(bits: Rows) -> npt.NDArray[np.float64]:
    """Return floats in [0, 1), multiples of 2**-53."""
    floats: npt.NDArray[np.float64] = (bits >> np.uint64(11)).astype(np.float64)
    floats *= 2.0**-53
    return floats


def sequence(start: int = 0, step: int = 1) -> ColumnGenerator:
    """Return a column ``start, start + step, ...`` (int64)."""
    return _Sequence(start, step)


def times(
    *,
    per_second: int,
    unit: str = "us",
    start: int = 0,
    disorder: Duration = "0s",
    timestamp: bool = True,
) -> TimesGenerator:
    """Return a column of event times.

    Row ``i`` is at ``start + i / per_second`` seconds, less a random part of ``disorder``.

    Parameters
    ----------
    per_second : int
        Rows in a second of event time.
    unit : {"ns", "us", "ms", "s"}
        Of the column.
    start : int
        Time of the first row, in ``unit`` since the epoch.
    disorder : Duration
        How late a row may be at most.
    timestamp : bool
        Whether the column is a timestamp; else int64.
    """
    if per_second < 1:
        raise ValueError(f"per_second must be at least 1, got {per_second}")
    time_unit = TimeUnit(unit)
    late = time_unit.ticks(disorder, what="disorder")
    if late < 0:
        raise ValueError(f"disorder {disorder!r} is negative")
    second = time_unit.ticks("1s", what="a second")
    return TimesGenerator(
        pa.timestamp(unit) if timestamp else pa.int64(), start, second, per_second, late
    )


def integers(low: int, high: int) -> ColumnGenerator:
    """Return a column of integers from ``low`` to ``high - 1``, uniform (int64)."""
    if not -(2**63) <= low < high <= 2**63:
        raise ValueError(f"integers({low}, {high}): expected low < high, both in int64")
    return _Integers(low, high)


def uniform(low: float = 0.0, high: float = 1.0) -> ColumnGenerator:
    """Return a column of floats from ``low`` up to ``high``, uniform."""
    return _Uniform(low, high)


def normal(mean: float = 0.0, deviation: float = 1.0) -> ColumnGenerator:
    """Return a column of normally distributed floats."""
    return _Normal(mean, deviation)


def zipf(exponent: float, n: int) -> ColumnGenerator:
    """Return a column of integers from 0 to ``n - 1``; ``k`` comes in proportion (k+1)**-exponent.

    Keeps a table of ``n`` floats.
    """
    if n < 1 or exponent < 0:
        raise ValueError(f"zipf({exponent}, {n}): expected exponent >= 0 and n >= 1")
    return _Zipf(exponent, n)


def choice(
    values: Sequence[object] | pa.Array, weights: Sequence[float] | None = None
) -> ColumnGenerator:
    """Return a column of these values, equally often or in proportion to ``weights``."""
    array = values if isinstance(values, pa.Array) else pa.array(values)
    if len(array) == 0:
        raise ValueError("choice: no values")
    if weights is not None and (len(weights) != len(array) or min(weights) < 0 or not sum(weights)):
        raise ValueError("choice: weights must be one for each value, not negative, not all zero")
    return _Choice(array, None if weights is None else tuple(weights))


def strings(n: int, *, min_bytes: int = 8, max_bytes: int = 24) -> ColumnGenerator:
    """Return a column of ``n`` distinct strings of hexadecimal digits, of varied length."""
    if not 1 <= min_bytes <= max_bytes or n < 1 or n > 16**min_bytes:
        raise ValueError(
            f"strings({n}, min_bytes={min_bytes}, max_bytes={max_bytes}): expected "
            "1 <= min_bytes <= max_bytes and at most 16**min_bytes strings"
        )
    return _Choice(pa.array([_word(i, min_bytes, max_bytes) for i in range(n)]), None)


def column_seed(seed: int, name: str) -> int:
    """Return the seed of one column of a stream, different for each name."""
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3 + 1) & _MASK  # FNV-1a's multiplier
    return int(random_bits(0, 1, seed)[0])


@dataclass(frozen=True)
class TimesGenerator:
    """Event times that ascend except for ``disorder``; see `times`. All in ticks."""

    type: pa.DataType
    start: int
    second: int
    per_second: int
    disorder: int

    def values(self, start: int, n_rows: int, seed: int, stride: int = 1) -> pa.Array:
        """Return the times of rows ``start``, ``start + stride``, ..., ``n_rows`` of them."""
        whole, rest = divmod(start * self.second, self.per_second)
        ticks = np.arange(n_rows, dtype=np.int64)
        ticks *= stride * self.second
        ticks += rest
        ticks //= self.per_second
        ticks += self.start + whole
        if self.disorder:
            late = below(random_bits(start, n_rows, seed, stride), self.disorder + 1)
            ticks -= late.view(np.int64)
        return pa.array(ticks).cast(self.type)

    def bounds(self, start: int, stop: int) -> Bounds:
        """Return times between which all rows from ``start`` to ``stop`` lie."""
        if stop <= start:
            return None, None
        first, last = (self.start + i * self.second // self.per_second for i in (start, stop - 1))
        return first - self.disorder, last


@dataclass(frozen=True)
class _Sequence:
    start: int
    step: int
    type: pa.DataType = _INT64

    def values(self, start: int, n_rows: int, seed: int, stride: int = 1) -> pa.Array:
        first = self.start + start * self.step
        return pa.array(np.arange(n_rows, dtype=np.int64) * (stride * self.step) + first)


@dataclass(frozen=True)
class _Integers:
    low: int
    high: int
    type: pa.DataType = _INT64

    def values(self, start: int, n_rows: int, seed: int, stride: int = 1) -> pa.Array:
        numbers = below(random_bits(start, n_rows, seed, stride), self.high - self.low)
        numbers += np.uint64(self.low & _MASK)  # two's complement: wraps to the right value
        return pa.array(numbers.view(np.int64))


@dataclass(frozen=True)
class _Uniform:
    low: float
    high: float
    type: pa.DataType = _FLOAT64

    def values(self, start: int, n_rows: int, seed: int, stride: int = 1) -> pa.Array:
        floats = unit_floats(random_bits(start, n_rows, seed, stride))
        floats *= self.high - self.low
        floats += self.low
        return pa.array(floats)


@dataclass(frozen=True)
class _Normal:
    mean: float
    deviation: float
    type: pa.DataType = _FLOAT64

    def values(self, start: int, n_rows: int, seed: int, stride: int = 1) -> pa.Array:
        """Box and Muller's transformation of two uniform numbers."""
        radius = np.sqrt(-2.0 * np.log1p(-unit_floats(random_bits(start, n_rows, seed, stride))))
        angle = 2.0 * math.pi * unit_floats(random_bits(start, n_rows, ~seed & _MASK, stride))
        return pa.array(radius * np.cos(angle) * self.deviation + self.mean)


@dataclass(frozen=True)
class _Zipf:
    exponent: float
    n: int
    type: pa.DataType = _INT64

    @cached_property
    def _cumulative(self) -> npt.NDArray[np.float64]:
        return _cumulative(np.arange(1, self.n + 1, dtype=np.float64) ** -self.exponent)

    def values(self, start: int, n_rows: int, seed: int, stride: int = 1) -> pa.Array:
        floats = unit_floats(random_bits(start, n_rows, seed, stride))
        return pa.array(np.searchsorted(self._cumulative, floats, side="right"))


@dataclass(frozen=True, eq=False)
class _Choice:
    choices: pa.Array
    weights: tuple[float, ...] | None

    @property
    def type(self) -> pa.DataType:
        return self.choices.type

    @cached_property
    def _cumulative(self) -> npt.NDArray[np.float64] | None:
        if self.weights is None:
            return None
        return _cumulative(np.array(self.weights, dtype=np.float64))

    def values(self, start: int, n_rows: int, seed: int, stride: int = 1) -> pa.Array:
        bits = random_bits(start, n_rows, seed, stride)
        if self._cumulative is None:
            chosen = below(bits, len(self.choices)).view(np.int64)
        else:
            chosen = np.searchsorted(self._cumulative, unit_floats(bits), side="right")
        return self.choices.take(pa.array(chosen))


def _cumulative(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return cumulative shares; the last is exactly 1, above every float in [0, 1)."""
    shares = np.cumsum(weights)
    shares /= shares[-1]
    shares[np.flatnonzero(weights)[-1] :] = 1.0
    return shares


def _word(number: int, min_bytes: int, max_bytes: int) -> str:
    """Return the number in hexadecimal, padded to a length that the number chooses."""
    length = min_bytes + number % (max_bytes - min_bytes + 1)
    return f"{number:0{min_bytes}x}".ljust(length, "_")
