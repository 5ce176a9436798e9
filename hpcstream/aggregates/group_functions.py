"""Aggregates that need all values of a group at once: medians, distinct counts, strings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.columns.float_order import float_of_order, float_order
from hpcstream.columns.row_order import RowTimes
from hpcstream.errors import OverflowInAggregate
from hpcstream.kernels import order_statistics

if TYPE_CHECKING:
    from hpcstream.aggregates.finishers import NamedAggregate

_DECIMAL256_DIGITS = 76
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GroupedValues:
    """Values that are not null, each with its group.

    Attributes
    ----------
    groups : int64[n]
    values : pa.Array of n
    when : RowTimes
        By what the values are ordered, where first or last is asked for.
    n_groups : int
    """

    groups: Ints
    values: pa.Array
    when: RowTimes
    n_groups: int


def group_result(
    aggregate: NamedAggregate, rows: GroupedValues, output_type: pa.DataType
) -> pa.Array:
    """Return an aggregate's result for each group; null (or 0) for one without values."""
    return _FUNCTIONS[aggregate.function](aggregate, rows).cast(output_type)


def _count_distinct(_: NamedAggregate, rows: GroupedValues) -> pa.Array:
    values = rows.values
    if pa.types.is_floating(values.type):
        values = pa.array(float_order(_floats(values) + 0.0))  # -0.0 equals 0.0; there is one NaN
    found = _by_group(rows, values, "count_distinct")
    return found.fill_null(0)


def _extreme(aggregate: NamedAggregate, rows: GroupedValues) -> pa.Array:
    if not pa.types.is_floating(rows.values.type):
        return _arrow_function(aggregate, rows)
    ordered = pa.array(float_order(_floats(rows.values) + 0.0))  # Arrow passes over NaN
    found = _by_group(rows, ordered, aggregate.function)
    values = float_of_order(found.fill_null(0).to_numpy())
    return pa.array(values, mask=found.is_null().to_numpy(zero_copy_only=False))


def _arrow_function(aggregate: NamedAggregate, rows: GroupedValues) -> pa.Array:
    return _by_group(rows, rows.values, aggregate.function)


def _sum(aggregate: NamedAggregate, rows: GroupedValues) -> pa.Array:
    values = rows.values
    if pa.types.is_floating(values.type):
        counts, totals = _counts_and_sums(rows, _floats(values))
        return pa.array(totals, mask=counts == 0)
    if not pa.types.is_decimal(values.type):
        return _arrow_function(aggregate, rows)
    scale = values.type.scale
    wide = pa.decimal256(_DECIMAL256_DIGITS, scale)
    result = pa.decimal128(38, scale) if pa.types.is_decimal128(values.type) else wide
    _, about = _counts_and_sums(rows, _floats(values))
    if not (np.abs(about) < 10.0 ** (result.precision - scale) * (1 + 1e-9)).all():
        raise _overflow(aggregate, about, result)
    sums = _by_group(rows, values.cast(wide), "sum")  # Arrow's own wrap around without a word
    try:
        return sums.cast(result)
    except pa.ArrowInvalid:
        raise _overflow(aggregate, about, result) from None


def _overflow(aggregate: NamedAggregate, about: Floats, result: pa.DataType) -> OverflowInAggregate:
    worst = about[np.argmax(np.abs(about))]
    return OverflowInAggregate(
        f"aggregate {aggregate}: a sum is about {worst:.6g}, outside {result}; cast the column "
        "to float64"
    )


def _by_group(rows: GroupedValues, values: pa.Array, function: str) -> pa.Array:
    """Return Arrow's grouped aggregate, one value a group."""
    table = pa.table({"group": rows.groups, "value": values})
    grouped = table.group_by("group", use_threads=False).aggregate([("value", function)])
    place = np.full(rows.n_groups, -1, dtype=np.int64)
    place[grouped.column("group").to_numpy()] = np.arange(grouped.num_rows)
    results = grouped.column(f"value_{function}").combine_chunks()
    return results.take(pa.array(place, mask=place < 0))


def _mean(_: NamedAggregate, rows: GroupedValues) -> pa.Array:
    counts, sums = _counts_and_sums(rows, _floats(rows.values))
    return pa.array(sums / np.maximum(counts, 1), mask=counts == 0)


def _variance(aggregate: NamedAggregate, rows: GroupedValues) -> pa.Array:
    values = _floats(rows.values)
    counts, sums = _counts_and_sums(rows, values)
    deviations = values - (sums / np.maximum(counts, 1))[rows.groups]
    _, squares = _counts_and_sums(rows, deviations * deviations)
    freedom = counts - int(aggregate.parameter("ddof", 1))
    variances = squares / np.maximum(freedom, 1)
    results = np.sqrt(variances) if aggregate.function == "std" else variances
    return pa.array(results, mask=freedom <= 0)


def _quantile(aggregate: NamedAggregate, rows: GroupedValues) -> pa.Array:
    values = _floats(rows.values)
    fraction = float(aggregate.parameter("q", 0.5))
    offsets = np.empty(rows.n_groups + 1, dtype=np.int64)
    in_order = np.empty(len(values), dtype=np.float64)
    order_statistics.sort_groups(rows.groups, values, rows.n_groups, offsets, in_order)
    quantiles = np.empty(rows.n_groups, dtype=np.float64)
    order_statistics.interpolate_quantile(offsets, in_order, fraction, quantiles)
    return pa.array(quantiles + 0.0, mask=np.diff(offsets) == 0)


def _edge(aggregate: NamedAggregate, rows: GroupedValues) -> pa.Array:
    """Return the value of the least or greatest (time, order, place, value) of each group."""
    keys = (rows.when.places, rows.when.orders, rows.when.times, rows.groups)
    by_place = np.lexsort(keys)
    if len(by_place) and _has_ties(keys, by_place):
        by_place = np.lexsort((_ranks(rows.values), *keys))
    groups = rows.groups[by_place]
    is_edge = np.ones(len(groups), dtype=np.bool_)
    if aggregate.function == "first":
        is_edge[1:] = groups[1:] != groups[:-1]
    else:
        is_edge[:-1] = groups[1:] != groups[:-1]
    place = np.full(rows.n_groups, -1, dtype=np.int64)
    place[groups[is_edge]] = by_place[is_edge]
    return rows.values.take(pa.array(place, mask=place < 0))


def _has_ties(keys: Sequence[Ints], order: Ints) -> bool:
    """Whether two rows that are next to each other in an order agree in all keys."""
    agree = np.ones(len(order) - 1, dtype=np.bool_)
    for key in keys:
        agree &= key[order[1:]] == key[order[:-1]]
    return bool(agree.any())


def _ranks(values: pa.Array) -> Ints:
    """Return numbers in the order of values; of types without one, in that of their texts."""
    if pa.types.is_nested(values.type) or pa.types.is_interval(values.type):
        values = pa.array([repr(value) for value in values.to_pylist()])
    order = pc.sort_indices(values).to_numpy()
    in_order = values.take(pa.array(order)).dictionary_encode()
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[order] = in_order.indices.to_numpy()
    return ranks


def _counts_and_sums(rows: GroupedValues, values: Floats) -> tuple[Ints, Floats]:
    """Return how many values each group has, and their sum, which no order of rows changes."""
    offsets = np.empty(rows.n_groups + 1, dtype=np.int64)
    in_order = np.empty(len(values), dtype=np.float64)
    order_statistics.sort_groups(rows.groups, values, rows.n_groups, offsets, in_order)
    sums = np.empty(rows.n_groups, dtype=np.float64)
    order_statistics.sum_groups(offsets, in_order, sums)
    return np.diff(offsets), sums


def _floats(values: pa.Array) -> Floats:
    """Return numbers as a writable float64 array, so that kernels see one type."""
    floats = values.cast(pa.float64(), safe=False)
    return np.array(floats.to_numpy(zero_copy_only=False))


_Function = Callable[[Any, GroupedValues], pa.Array]  # NamedAggregate; imported for hints only
_FUNCTIONS: dict[str, _Function] = {
    "count_distinct": _count_distinct,
    "sum": _sum,
    "min": _extreme,
    "max": _extreme,
    "mean": _mean,
    "var": _variance,
    "std": _variance,
    "median": _quantile,
    "quantile": _quantile,
    "first": _edge,
    "last": _edge,
}
