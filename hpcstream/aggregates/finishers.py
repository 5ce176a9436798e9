"""The built-in aggregates: which accumulators they need and how results come from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.aggregates.accumulators import (
    Accumulator,
    FirstValue,
    FloatSum,
    Greatest,
    IntegerSum,
    LastValue,
    Least,
    Moments,
    NullCount,
)
from hpcstream.columns.arrays import is_word_type, stored_type, words_to_array
from hpcstream.columns.event_time import PLACE_COLUMN
from hpcstream.errors import OverflowInAggregate, PlanError
from hpcstream.expressions.aggregate_call import AggregateCall

Values = npt.NDArray[Any]
Entries = Mapping[str, Values]
"""Words of some entries by name; ``"rows"`` is the number of rows of each."""

_WORD_FUNCTIONS = frozenset(
    ("count_rows", "count", "sum", "mean", "min", "max", "var", "std", "first", "last")
)


REPRODUCIBLE = "reproducible"
"""A parameter: the result does not depend on the order of rows, to the last bit."""


@dataclass(frozen=True)
class NamedAggregate:
    """One aggregate of a window.

    Attributes
    ----------
    name : str
        Output column.
    function : str
        One of `hpcstream.expressions.aggregate_call.FUNCTIONS`.
    input : str or None
        Input column; None for ``count_rows``.
    parameters : tuple of (name, value)
        Constants such as ``(("ddof", 1),)``.
    """

    name: str
    function: str
    input: str | None = None
    parameters: tuple[tuple[str, object], ...] = ()

    def __str__(self) -> str:
        constants = "".join(f", {name}={value!r}" for name, value in self.parameters)
        return f"{self.name}={self.function}({self.input or ''}{constants})"

    def parameter(self, name: str, default: Any) -> Any:
        """Return a constant. `Any`: the caller knows its type."""
        return dict(self.parameters).get(name, default)


def result_type(aggregate: NamedAggregate, schema: pa.Schema) -> pa.DataType:
    """Return the type of an aggregate's output column."""
    call = AggregateCall(aggregate.function, None, aggregate.parameters, aggregate.name)
    if aggregate.input is None:
        return call.result_type(None)
    return call.result_type(value_type(schema.field(aggregate.input).type))


def value_type(data_type: pa.DataType) -> pa.DataType:
    """Return the type of the values of a column: a dictionary's, or the type itself."""
    return data_type.value_type if pa.types.is_dictionary(data_type) else data_type


def kept_type(data_type: pa.DataType) -> pa.DataType:
    """Return the type as which values of a column are kept: one that Arrow can take and group."""
    values = stored_type(value_type(data_type))
    if values == pa.string_view():
        return pa.large_string()
    if values == pa.binary_view():
        return pa.large_binary()
    if pa.types.is_decimal32(values) or pa.types.is_decimal64(values):
        return pa.decimal128(values.precision, values.scale)
    return pa.float32() if pa.types.is_float16(values) else values


def depends_on_order(aggregate: NamedAggregate, schema: pa.Schema) -> bool:
    """Whether another order of rows may change the last bits of an aggregate's results."""
    if aggregate.input is None or aggregate.function not in ("sum", "mean", "var", "std"):
        return False
    is_float = pa.types.is_floating(value_type(schema.field(aggregate.input).type))
    return is_float or aggregate.function in ("var", "std")


def is_word_aggregate(aggregate: NamedAggregate, schema: pa.Schema) -> bool:
    """Whether an aggregate's state is a few 8-byte words per key, which can be merged."""
    if aggregate.function not in _WORD_FUNCTIONS:
        return False
    if aggregate.input is None or aggregate.function == "count":
        return True
    if aggregate.parameter(REPRODUCIBLE, False):
        return False
    data_type = schema.field(aggregate.input).type
    return not pa.types.is_decimal(data_type) and (
        is_word_type(data_type) or pa.types.is_floating(data_type)
    )


def accumulators_of(aggregate: NamedAggregate, schema: pa.Schema) -> list[Accumulator]:
    """Return the accumulators that an aggregate reads."""
    column = aggregate.input
    if column is None:
        return []
    dtype = _word_dtype(schema.field(column).type)
    function = aggregate.function
    found: list[Accumulator] = [NullCount(column)]
    if function in ("sum", "mean"):
        found.append(FloatSum(column) if dtype == "float64" else IntegerSum(column))
    elif function == "min":
        found.append(Least(column, dtype))
    elif function == "max":
        found.append(Greatest(column, dtype))
    elif function in ("var", "std"):
        found.append(Moments(column))
    elif function == "first":
        found.append(FirstValue(column, PLACE_COLUMN in schema.names))
    elif function == "last":
        found.append(LastValue(column, PLACE_COLUMN in schema.names))
    elif function != "count":
        raise PlanError(f"aggregate {aggregate}: {function!r} keeps no words of state")
    return found


def shared_accumulators(
    aggregates: Sequence[NamedAggregate], schema: pa.Schema
) -> list[Accumulator]:
    """Return the accumulators of all aggregates, each once, grouped by column."""
    found: dict[Accumulator, None] = {}
    for aggregate in aggregates:
        found.update(dict.fromkeys(accumulators_of(aggregate, schema)))
    columns = list(dict.fromkeys(accumulator.column for accumulator in found))
    return sorted(found, key=lambda accumulator: columns.index(accumulator.column))


def finish(aggregate: NamedAggregate, schema: pa.Schema, entries: Entries) -> pa.Array:
    """Return an aggregate's results from the words of some entries.

    Raises
    ------
    OverflowInAggregate
        An integer sum does not fit int64.
    """
    rows = entries["rows"]
    if aggregate.input is None:
        return pa.array(rows)
    n_values = rows - entries[f"nulls({aggregate.input})"]
    if aggregate.function == "count":
        return pa.array(n_values)
    output_type = result_type(aggregate, schema)
    return _FINISHERS[aggregate.function](aggregate, entries, n_values, output_type)


def _word_dtype(data_type: pa.DataType) -> str:
    if pa.types.is_floating(data_type):
        return "float64"
    return "uint64" if pa.types.is_uint64(data_type) else "int64"


def _finish_sum(
    aggregate: NamedAggregate, entries: Entries, n_values: Values, output_type: pa.DataType
) -> pa.Array:
    sums = entries[f"sum({aggregate.input})"]
    carries = entries.get(f"carry({aggregate.input})")
    if carries is not None and carries.any():
        at = int(np.flatnonzero(carries)[0])
        total = int(sums[at]) + (int(carries[at]) << 64)
        raise OverflowInAggregate(
            f"aggregate {aggregate}: a sum is {total}, outside int64; "
            "cast the column to float64 or decimal"
        )
    return _to_arrow(sums, n_values > 0, output_type)


def _finish_mean(
    aggregate: NamedAggregate, entries: Entries, n_values: Values, output_type: pa.DataType
) -> pa.Array:
    totals = entries[f"sum({aggregate.input})"].astype(np.float64)
    carries = entries.get(f"carry({aggregate.input})")
    if carries is not None and carries.any():
        totals += carries * 2.0**64
    means = totals / np.maximum(n_values, 1)
    return _to_arrow(means, n_values > 0, output_type)


def _finish_least(
    aggregate: NamedAggregate, entries: Entries, n_values: Values, output_type: pa.DataType
) -> pa.Array:
    values = entries[f"{aggregate.function}({aggregate.input})"]
    if values.dtype == np.float64:
        values = values + 0.0  # zeros are equal: which came first does not tell their sign
    return _to_arrow(values, n_values > 0, output_type)


def _finish_variance(
    aggregate: NamedAggregate, entries: Entries, n_values: Values, output_type: pa.DataType
) -> pa.Array:
    freedom = n_values - int(aggregate.parameter("ddof", 1))
    values = entries[f"squares({aggregate.input})"] / np.maximum(freedom, 1)
    if aggregate.function == "std":
        values = np.sqrt(values)
    return _to_arrow(values, freedom > 0, output_type)


def _finish_edge(
    aggregate: NamedAggregate, entries: Entries, n_values: Values, output_type: pa.DataType
) -> pa.Array:
    bits = entries[f"{aggregate.function}({aggregate.input})"]
    values = bits.view(np.float64) if pa.types.is_floating(output_type) else bits
    return _to_arrow(values, n_values > 0, output_type)


_Finisher = Callable[[NamedAggregate, Entries, Values, pa.DataType], pa.Array]
_FINISHERS: dict[str, _Finisher] = {
    "sum": _finish_sum,
    "mean": _finish_mean,
    "min": _finish_least,
    "max": _finish_least,
    "var": _finish_variance,
    "std": _finish_variance,
    "first": _finish_edge,
    "last": _finish_edge,
}


def _to_arrow(values: Values, valid: npt.NDArray[np.bool_], output_type: pa.DataType) -> pa.Array:
    """Return 8-byte values as an array of the output type."""
    mask = None if valid.all() else valid
    if not pa.types.is_floating(output_type):
        words = values.view(np.int64)
        return words_to_array(
            words if mask is None else np.where(mask, words, 0), mask, output_type
        )
    array = pa.array(values, mask=None if mask is None else ~mask)
    return array if output_type == pa.float64() else pc.cast(array, output_type, safe=False)
