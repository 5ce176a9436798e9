"""Rebuilds lists, structs and maps with converted children."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

OfType = Callable[[pa.DataType], pa.DataType]
OfColumn = Callable[[pa.Array, pa.DataType], pa.Array]


def nested_type(data_type: pa.DataType, child: OfType) -> pa.DataType:
    """Return a nested type with converted children; list views become lists.

    The type itself if nothing changes.
    """
    if pa.types.is_map(data_type):
        key, item = map(child, (data_type.key_type, data_type.item_type))
        new = pa.map_(data_type.key_field.with_type(key), data_type.item_field.with_type(item))
        return data_type if new.equals(data_type) else new
    if pa.types.is_struct(data_type):
        new = pa.struct([field.with_type(child(field.type)) for field in data_type])
        return data_type if new.equals(data_type) else new
    if not is_list(data_type):
        return data_type
    field = data_type.value_field.with_type(child(data_type.value_type))
    if pa.types.is_fixed_size_list(data_type):
        new = pa.list_(field, data_type.list_size)
    elif pa.types.is_large_list(data_type) or pa.types.is_large_list_view(data_type):
        new = pa.large_list(field)
    else:
        new = pa.list_(field)
    return data_type if new.equals(data_type) else new


def is_list(data_type: pa.DataType) -> bool:
    """Whether the type is a list of any kind, including views but not maps."""
    return bool(
        pa.types.is_list(data_type)
        or pa.types.is_large_list(data_type)
        or pa.types.is_fixed_size_list(data_type)
        or is_list_view(data_type)
    )


def is_list_view(data_type: pa.DataType) -> bool:
    """Whether the type is a list view, whose lists may be stored in any order."""
    return bool(pa.types.is_list_view(data_type) or pa.types.is_large_list_view(data_type))


def nested_column(column: pa.Array, data_type: pa.DataType, child: OfColumn) -> pa.Array:
    """Return a column in its `nested_type` ``data_type``."""
    if is_list_view(column.type):
        return _list_of_view(column, data_type, child)
    if pa.types.is_struct(column.type):
        children = [child(column.field(i), field.type) for i, field in enumerate(data_type)]
        return pa.StructArray.from_arrays(
            children, fields=list(data_type), mask=column.is_null() if column.null_count else None
        )
    if pa.types.is_map(column.type):
        entries = pa.struct([data_type.key_field, data_type.item_field])
        keys, items = (
            child(column.keys, data_type.key_type),
            child(column.items, data_type.item_type),
        )
        children = [pa.StructArray.from_arrays([keys, items], fields=list(entries))]
    else:
        children = [child(column.values, data_type.value_type)]
    n_own = 1 if pa.types.is_fixed_size_list(column.type) else 2
    return pa.Array.from_buffers(
        data_type, len(column), column.buffers()[:n_own], offset=column.offset, children=children
    )


def _list_of_view(column: pa.Array, data_type: pa.DataType, child: OfColumn) -> pa.Array:
    lengths = pc.list_value_length(column).fill_null(0).cast(pa.int64())
    ends = pc.cumulative_sum(lengths)
    is_large = pa.types.is_large_list(data_type)
    offsets = pa.concat_arrays([pa.array([0], pa.int64()), ends]).cast(
        pa.int64() if is_large else pa.int32()
    )
    values = child(column.flatten(), data_type.value_type)
    make = pa.LargeListArray if is_large else pa.ListArray
    mask = column.is_null() if column.null_count else None
    return make.from_arrays(offsets, values, type=data_type, mask=mask)
