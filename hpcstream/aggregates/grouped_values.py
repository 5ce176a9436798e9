"""Kept values by group, and what aggregates compute of them in no order of rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hpcstream.columns.row_order import RowTimes

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GroupedValues:
    """Values that are not null, each with its group.

    Attributes
    ----------
    groups : int64[n]
    values : pa.Array of n
        Of several columns structs.
    when : RowTimes
        By what the values are ordered, where an aggregate needs an order.
    n_groups : int
    """

    groups: Ints
    values: pa.Array
    when: RowTimes
    n_groups: int

    def floats(self) -> Floats:
        """Return numbers as a writable float64 array, so that kernels see one type."""
        return as_floats(self.values)

    def by_arrow(self, values: pa.Array, function: str) -> pa.Array:
        """Return Arrow's grouped aggregate of some values, one a group; null without any."""
        table = pa.table({"group": self.groups, "value": values})
        grouped = table.group_by("group", use_threads=False).aggregate([("value", function)])
        place = np.full(self.n_groups, -1, dtype=np.int64)
        place[grouped.column("group").to_numpy()] = np.arange(grouped.num_rows)
        results = grouped.column(f"value_{function}").combine_chunks()
        return results.take(pa.array(place, mask=place < 0))

    def in_groups(self, values: Floats) -> tuple[Ints, Floats]:
        """Return where each group begins, and its values in ascending order."""
        from hpcstream.kernels import order_statistics  # loads Numba

        offsets = np.empty(self.n_groups + 1, dtype=np.int64)
        in_order = np.empty(len(values), dtype=np.float64)
        order_statistics.sort_groups(self.groups, values, self.n_groups, offsets, in_order)
        return offsets, in_order

    def counts_and_sums(self, values: Floats) -> tuple[Ints, Floats]:
        """Return how many values each group has, and their sum, which no order of rows changes."""
        from hpcstream.kernels import order_statistics

        offsets, in_order = self.in_groups(values)
        sums = np.empty(self.n_groups, dtype=np.float64)
        order_statistics.sum_groups(offsets, in_order, sums)
        return np.diff(offsets), sums

    def deviations(self, values: Floats) -> tuple[Ints, Floats]:
        """Return how many values each group has, and how far each value is from their mean."""
        counts, sums = self.counts_and_sums(values)
        return counts, values - (sums / np.maximum(counts, 1))[self.groups]


def as_floats(values: pa.Array) -> Floats:
    """Return numbers as a writable float64 array."""
    floats = values.cast(pa.float64(), safe=False)
    return np.array(floats.to_numpy(zero_copy_only=False))
