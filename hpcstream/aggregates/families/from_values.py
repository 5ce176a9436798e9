"""Holistic aggregates, which need all values of a group: medians, quantiles, distinct counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from hpcstream.aggregates.base import Aggregate, is_nested
from hpcstream.aggregates.families.counts_sums import number_type
from hpcstream.aggregates.float_order import float_order
from hpcstream.aggregates.grouped_values import GroupedValues


@dataclass(frozen=True)
class CountDistinct(Aggregate):
    """The number of distinct values that are not null; NaN is one of them."""

    name: ClassVar[str] = "count_distinct"
    distinct_suffices: ClassVar[bool] = True
    is_method: ClassVar[bool] = True

    def result_type(self, types: Sequence[pa.DataType]) -> pa.DataType:
        """Return int64."""
        if is_nested(types[0]):
            raise self.unsuitable(types[0])
        return pa.int64()

    def from_values(self, rows: GroupedValues) -> pa.Array:
        """Return the counts."""
        values = rows.values
        if pa.types.is_floating(values.type):
            values = pa.array(float_order(rows.floats() + 0.0))  # -0.0 equals 0.0, NaN equals NaN
        return rows.by_arrow(values, "count_distinct").fill_null(0)


@dataclass(frozen=True)
class Median(Aggregate):
    """The exact median, interpolated between the two middle values."""

    name: ClassVar[str] = "median"
    is_method: ClassVar[bool] = True

    def result_type(self, types: Sequence[pa.DataType]) -> pa.DataType:
        """Return float64."""
        return number_type(self, types[0])

    def from_values(self, rows: GroupedValues) -> pa.Array:
        """Return the medians."""
        return _quantiles(rows, 0.5)


@dataclass(frozen=True)
class Quantile(Aggregate):
    """The exact ``q``-quantile, interpolated linearly."""

    q: float = 0.5
    name: ClassVar[str] = "quantile"
    is_method: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.q <= 1:
            raise ValueError(f"quantile({self.q!r}): q must lie between 0 and 1")

    def result_type(self, types: Sequence[pa.DataType]) -> pa.DataType:
        """Return float64."""
        return number_type(self, types[0])

    def from_values(self, rows: GroupedValues) -> pa.Array:
        """Return the quantiles."""
        return _quantiles(rows, self.q)


def _quantiles(rows: GroupedValues, fraction: float) -> pa.Array:
    from hpcstream.kernels import order_statistics  # loads Numba

    offsets, in_order = rows.in_groups(rows.floats())
    quantiles = np.empty(rows.n_groups, dtype=np.float64)
    order_statistics.interpolate_quantile(offsets, in_order, fraction, quantiles)
    return pa.array(quantiles + 0.0, mask=np.diff(offsets) == 0)
