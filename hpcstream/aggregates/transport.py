"""How kept values travel between ranks that share a window: as lists."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hpcstream.aggregates.grouped_values import GroupedValues
from hpcstream.columns.row_order import NO_PLACES, RowTimes

Ints = npt.NDArray[np.int64]

WINDOW_COLUMN = "__window"
"""Number of the window of a partial row."""

_ORDERING = RowTimes._fields


def list_fields(name: str, data_type: pa.DataType, *, needs_times: bool) -> list[pa.Field]:
    """Return the fields of `list_columns` for a column."""
    fields = [pa.field(f"values({name})", pa.list_(data_type))]
    if needs_times:
        fields += [pa.field(f"{of}({name})", pa.list_(pa.int64())) for of in _ORDERING]
    return fields


def list_columns(rows: GroupedValues, *, needs_times: bool) -> list[pa.Array]:
    """Return kept values as one list per group, in the order in which they came."""
    by_group = np.argsort(rows.groups, kind="stable")
    counts = np.bincount(rows.groups, minlength=rows.n_groups)
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    flat = [rows.values.take(pa.array(by_group))]
    if needs_times:
        flat += [pa.array(values) for values in rows.when.take(by_group)]
    return [pa.ListArray.from_arrays(offsets, values) for values in flat]


def values_of_lists(
    batch: pa.RecordBatch, name: str, needs_times: bool
) -> tuple[pa.Array, Ints, RowTimes]:
    """Return the values of `list_columns`, how many each row has, and by what they are ordered."""
    lists = batch.column(f"values({name})")
    lengths = lists.value_lengths().to_numpy()
    if not needs_times:
        return lists.flatten(), lengths, RowTimes(NO_PLACES, NO_PLACES, NO_PLACES)
    when = (batch.column(f"{of}({name})").flatten().to_numpy() for of in _ORDERING)
    return lists.flatten(), lengths, RowTimes(*when)
