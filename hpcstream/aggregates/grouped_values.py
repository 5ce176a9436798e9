"""Kept values by group, and computations on them that do not depend on the order of rows."""

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
        Structs if there are several columns.
    when : RowTimes
        The sort keys of the values, if an aggregate needs an order.
    n_groups : int
    """

    groups: Ints
    values: pa.Array
    when: RowTimes
    n_groups: int

    def floats(self) -> Floats:
        """Return numbers as a writable float64 array, the only type that the kernels take."""
        return as_floats(self.values)

    def by_arrow(self, values: pa.Array, function: str) -> pa.Array:
        """Return Arrow's grouped aggregate of values; null for groups without values."""
        table = pa.table({"group": self.groups, "value": values})
        grouped = table.group_by("group", use_threads=False).aggregate([("value", function)])
        indices = np.full(self.n_groups, -1, dtype=np.int64)
        indices[grouped.column("group").to_numpy()] = np.arange(grouped.num_rows)
        results = grouped.column(f"value_{function}").combine_chunks()
        return results.take(pa.array(indices, mask=indices < 0))

    def in_groups(self, values: Floats) -> tuple[Ints, Floats]:
        """Return the offsets of the groups, and the values of each group in ascending order."""
        from hpcstream.kernels import order_statistics  # loads Numba

        offsets = np.empty(self.n_groups + 1, dtype=np.int64)
        in_order = np.empty(len(values), dtype=np.float64)
        order_statistics.sort_groups(self.groups, values, self.n_groups, offsets, in_order)
        return offsets, in_order

    def counts_and_sums(self, values: Floats) -> tuple[Ints, Floats]:
        """Return the number of values of each group, and their sum, independent of row order."""
        from hpcstream.kernels import order_statistics

        offsets, in_order = self.in_groups(values)
        sums = np.empty(self.n_groups, dtype=np.float64)
        order_statistics.sum_groups(offsets, in_order, sums)
        return np.diff(offsets), sums

    def deviations(self, values: Floats) -> tuple[Ints, Floats]:
        """Return the number of values of each group, and each value's deviation from the mean."""
        counts, sums = self.counts_and_sums(values)
        return counts, values - (sums / np.maximum(counts, 1))[self.groups]


def as_floats(values: pa.Array) -> Floats:
    """Return numbers as a writable float64 array."""
    floats = values.cast(pa.float64(), safe=False)
    return np.array(floats.to_numpy(zero_copy_only=False))
