"""Covariances and correlations of two columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from hpcstream.aggregates.accumulator import Accumulator, InputRows, Values, Words
from hpcstream.aggregates.base import Aggregate, Entries, Inputs, result_array
from hpcstream.aggregates.families.counts_sums import number_type
from hpcstream.aggregates.grouped_values import GroupedValues, as_floats
from hpcstream.state.arrays import Slots, Word

_PARTS = ("n", "mean_x", "mean_y", "square_x", "square_y", "product")


class _OfTwo(Aggregate):
    """A function of the second moments of the rows without nulls."""

    n_inputs: ClassVar[int] = 2
    is_method: ClassVar[bool] = True

    def result_type(self, types: Sequence[pa.DataType]) -> pa.DataType:
        """Return float64."""
        for each in types:
            number_type(self, each)
        return pa.float64()

    def accumulators(self, inputs: Inputs) -> tuple[Accumulator, ...] | None:
        """Return the moments."""
        return (CoMoments(inputs.names),) if inputs.are_words else None

    def is_order_free(self, inputs: Inputs) -> bool:
        """Return False: means are rounded after each batch."""
        return False

    def finish(self, entries: Entries, inputs: Inputs, output_type: pa.DataType) -> pa.Array:
        """Return the results."""
        counts, _, _, *moments = (entries[inputs.word(part)] for part in _PARTS)
        return self._results(counts, moments)

    def from_values(self, rows: GroupedValues) -> pa.Array:
        """Return the results."""
        columns = [as_floats(rows.values.field(number)) for number in (0, 1)]
        (counts, x), (_, y) = (rows.deviations(column) for column in columns)
        products = (x * x, y * y, x * y)
        return self._results(counts, [rows.counts_and_sums(each)[1] for each in products])

    def _results(self, counts: Values, moments: Sequence[Values]) -> pa.Array:
        """Return results for counts and the sums of squares of x, of y, and of products."""
        raise NotImplementedError


@dataclass(frozen=True)
class Covar(_OfTwo):
    """The covariance: the sum of products of deviations, divided by ``n - ddof``."""

    ddof: int = 1
    name: ClassVar[str] = "covar"

    def _results(self, counts: Values, moments: Sequence[Values]) -> pa.Array:
        freedom = counts - self.ddof
        return result_array(moments[2] / np.maximum(freedom, 1), freedom > 0, pa.float64())


@dataclass(frozen=True)
class Corr(_OfTwo):
    """Pearson's correlation; null for fewer than two rows, NaN if a column is constant."""

    name: ClassVar[str] = "corr"

    def _results(self, counts: Values, moments: Sequence[Values]) -> pa.Array:
        x, y, products = moments
        with np.errstate(divide="ignore", invalid="ignore"):
            results = products / (np.sqrt(x) * np.sqrt(y))
        return result_array(results, counts > 1, pa.float64())


@dataclass(frozen=True)
class CoMoments(Accumulator):
    """Count, means, and sums of squared deviations and of their products, of two columns."""

    columns: tuple[str, ...]

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of state."""
        return tuple(Word(self.word_name(part), "float64", 0.0) for part in _PARTS)

    def update(self, state: Words, rows: InputRows) -> None:
        """Accumulate rows, after combining those of each slot."""
        x, y = (column.astype(np.float64) for column in rows.columns)
        slots, groups = np.unique(rows.slots, return_inverse=True)
        counts = np.bincount(groups).astype(np.float64)
        means = [np.bincount(groups, each) / counts for each in (x, y)]
        x, y = x - means[0][groups], y - means[1][groups]
        sums = [np.bincount(groups, each) for each in (x * x, y * y, x * y)]
        _merge_once(state, slots, (counts, *means, *sums))

    def merge(self, state: Words, slots: Slots, parts: Words) -> None:
        """Merge partial results; repeated slots are merged in further passes, in order."""
        left = np.arange(len(slots))
        while len(left):
            once, first = np.unique(slots[left], return_index=True)
            _merge_once(state, once, [part[left[first]] for part in parts])
            left = np.delete(left, first)


def _merge_once(state: Words, slots: Slots, parts: Words) -> None:
    """Merge partial results into distinct slots (Chan, Golub and LeVeque 1979)."""
    n, mean_x, mean_y, *moments = (word[slots] for word in state)
    added, other_x, other_y, *others = parts
    total = np.maximum(n + added, 1)
    x, y = other_x - mean_x, other_y - mean_y
    weight = n * added / total
    new = [n + added, mean_x + x * added / total, mean_y + y * added / total]
    for own, other, shift in zip(moments, others, (x * x, y * y, x * y), strict=True):
        new.append(own + other + shift * weight)
    for word, values in zip(state, new, strict=True):
        word[slots] = values
