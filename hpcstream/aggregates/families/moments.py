"""Variances and standard deviations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from hpcstream.aggregates.accumulator import (
    Accumulator,
    InputRows,
    NullCount,
    Targets,
    Values,
    Words,
    word_kernels,
)
from hpcstream.aggregates.base import Entries, Inputs, result_array
from hpcstream.aggregates.families.counts_sums import number_type
from hpcstream.aggregates.families.exact_moments import ExactSquares, squared_deviations
from hpcstream.aggregates.families.exact_sums import ExactSum, MayBeExact
from hpcstream.aggregates.grouped_values import GroupedValues
from hpcstream.state.arrays import Word


@dataclass(frozen=True)
class Var(MayBeExact):
    """The variance: the sum of squared deviations, divided by ``n - ddof``.

    Attributes
    ----------
    ddof : int
    exact : bool
        Compute it from sums of values and of squares without rounding.
    """

    ddof: int = 1
    exact: bool = False
    name: ClassVar[str] = "var"
    is_method: ClassVar[bool] = True

    def result_type(self, types: Sequence[pa.DataType]) -> pa.DataType:
        """Return float64."""
        return number_type(self, types[0])

    def accumulators(self, inputs: Inputs) -> tuple[Accumulator, ...] | None:
        """Return the moments, or the exact sums."""
        if not inputs.are_words:
            return None
        if self.exact:
            return NullCount(inputs.names), ExactSum(inputs.names), ExactSquares(inputs.names)
        return NullCount(inputs.names), Moments(inputs.names)

    def is_order_free(self, inputs: Inputs) -> bool:
        """Return whether sums are exact: the means of `Moments` are rounded after each row."""
        return self.exact

    def finish(self, entries: Entries, inputs: Inputs, output_type: pa.DataType) -> pa.Array:
        """Return the results."""
        freedom = inputs.n_values(entries) - self.ddof
        values = self._squares(entries, inputs) / np.maximum(freedom, 1)
        return result_array(self.of_variance(values), freedom > 0, output_type)

    def _squares(self, entries: Entries, inputs: Inputs) -> Values:
        if not self.exact:
            return entries[inputs.word("squares")]
        words = (entries[inputs.word(part)] for part in ("exact_sum", "exact_squares"))
        return squared_deviations(inputs.n_values(entries), *words)

    def from_values(self, rows: GroupedValues) -> pa.Array:
        """Return the results."""
        counts, deviations = rows.deviations(rows.floats())
        _, squares = rows.counts_and_sums(deviations * deviations)
        freedom = counts - self.ddof
        values = self.of_variance(squares / np.maximum(freedom, 1))
        return pa.array(values, mask=freedom <= 0)

    def of_variance(self, variances: Values) -> Values:
        """Return the results for some variances."""
        return variances


@dataclass(frozen=True)
class Std(Var):
    """The standard deviation: the square root of the variance."""

    name: ClassVar[str] = "std"

    def of_variance(self, variances: Values) -> Values:
        """Return the results for some variances."""
        deviations: Values = np.sqrt(variances)
        return deviations


@dataclass(frozen=True)
class Moments(Accumulator):
    """Count, mean and sum of squared deviations, for variances."""

    columns: tuple[str, ...]
    takes_ranges: ClassVar[bool] = True

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of state."""
        names = map(self.word_name, ("n", "average", "squares"))
        return tuple(Word(name, "float64", 0.0) for name in names)

    def update(self, state: Words, rows: InputRows) -> None:
        """Accumulate rows."""
        word_kernels().add_moments(rows.slots, rows.floats, *state)

    def merge(self, state: Words, slots: Targets, parts: Words) -> None:
        """Merge partial results."""
        word_kernels().merge_moments(slots, *parts, *state)
