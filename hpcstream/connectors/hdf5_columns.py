"""Arrow columns as HDF5 datasets, and back.

::

    /table                  group; its attribute "arrow_schema" says the exact types
    /table/time             a column: one dataset, row by row, chunked
    /table/time.valid       uint8, only if the column has nulls: 0 where a value is null
    /table/frame            a fixed-size list is a dataset of more dimensions: (rows, 480, 640)

Files that others wrote have no such attribute: types then follow from the datasets.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hpcstream.errors import ConnectorError

SCHEMA = "arrow_schema"
VALID = ".valid"

Values = npt.NDArray[Any]


def schema_text(schema: pa.Schema) -> str:
    """Return a schema as text for an attribute."""
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def stored_schema(group: Any, where: str, *, same_length: bool = True) -> pa.Schema:
    """Return the schema of a group: as it was written, or as its datasets are.

    Raises
    ------
    ConnectorError
        No datasets, one of another type, or of another length unless they may grow.
    """
    text = group.attrs.get(SCHEMA)
    if text is not None:
        schema: pa.Schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))
        return schema
    columns = {n: one for n, one in group.items() if hasattr(one, "shape") and one.ndim}
    columns = {n: one for n, one in columns.items() if not n.endswith(VALID)}
    if not columns:
        raise ConnectorError(f"{where}: no datasets with rows; name the group with table=")
    lengths = {name: one.shape[0] for name, one in columns.items()}
    if same_length and len(set(lengths.values())) > 1:
        raise ConnectorError(f"{where}: datasets differ in length: {lengths}; name another group")
    return pa.schema([(name, _type_of(one, where)) for name, one in columns.items()])


def _type_of(dataset: Any, where: str) -> pa.DataType:
    import h5py

    if h5py.check_string_dtype(dataset.dtype) is not None:
        return pa.string()
    try:
        data_type = pa.from_numpy_dtype(dataset.dtype)
    except (pa.ArrowNotImplementedError, TypeError) as error:
        raise ConnectorError(f"{where}: {dataset.name} is of type {dataset.dtype}") from error
    for length in reversed(dataset.shape[1:]):
        data_type = pa.list_(data_type, length)
    return data_type


def column_layout(data_type: pa.DataType) -> tuple[Any, tuple[int, ...]]:
    """Return the type of a column's dataset, and its dimensions after the first.

    Raises
    ------
    TypeError
        HDF5 has no dataset for such a column.
    """
    import h5py

    shape: list[int] = []
    while pa.types.is_fixed_size_list(data_type):
        shape.append(data_type.list_size)
        data_type = data_type.value_type
    if pa.types.is_string(data_type) or pa.types.is_large_string(data_type):
        if not shape:
            return h5py.string_dtype(), ()
    elif (storage := _storage(data_type)) is not None:
        return np.dtype(storage.to_pandas_dtype()), tuple(shape)
    raise TypeError(f"HDF5 datasets hold numbers, times and strings, not {data_type}")


def _storage(data_type: pa.DataType) -> pa.DataType | None:
    """Return the plain number that a value is stored as."""
    if pa.types.is_date32(data_type) or pa.types.is_time32(data_type):
        return pa.int32()
    if pa.types.is_temporal(data_type) and data_type.bit_width == 64:
        return pa.int64()
    plain = pa.types.is_integer(data_type) or pa.types.is_floating(data_type)
    return data_type if plain or pa.types.is_boolean(data_type) else None


def to_values(column: pa.Array) -> tuple[Values, Values | None]:
    """Return a column as what its dataset takes, and which values are valid (None: all)."""
    valid = None
    if column.null_count:
        valid = np.asarray(column.is_valid()).astype(np.uint8)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return np.array(column.fill_null("").to_pylist(), dtype=object), valid
    _, shape = column_layout(column.type)
    if shape and column.null_count:
        column = _without_nulls(column)
    flat = column
    for _ in shape:
        if flat.null_count:
            raise ConnectorError(f"a null inside a value of type {column.type}: HDF5 has none")
        flat = flat.flatten()
    return _numbers(flat).reshape(len(column), *shape), valid


def _numbers(array: pa.Array) -> Values:
    storage = _storage(array.type)
    if storage is not None and storage != array.type:
        array = array.view(storage)
    if array.null_count:
        array = array.fill_null(False if pa.types.is_boolean(array.type) else 0)
    values: Values = array.to_numpy(zero_copy_only=False)
    return values


def _without_nulls(column: pa.FixedSizeListArray) -> pa.Array:
    """Return the lists with zeros where one is null."""
    n_values = column.type.list_size
    filled = np.nan_to_num(np.asarray(column.take(pa.array(np.arange(len(column)))).values))
    values = pa.array(filled.reshape(-1)[: len(column) * n_values], column.type.value_type)
    return pa.FixedSizeListArray.from_arrays(values, n_values)


def from_values(values: Values, valid: Values | None, data_type: pa.DataType) -> pa.Array:
    """Return the column of a dataset's values."""
    mask = None if valid is None else valid == 0
    if pa.types.is_string(data_type) or pa.types.is_large_string(data_type):
        return pa.array(values, data_type, mask=mask)
    shape = values.shape[1:]
    inner, lists = data_type, []
    while pa.types.is_fixed_size_list(inner):
        lists.append(inner)
        inner = inner.value_type
    storage = _storage(inner)
    assert storage is not None, f"{data_type} is stored as numbers"
    flat = np.ascontiguousarray(values).reshape(-1)
    array = pa.array(flat, storage, mask=None if shape else mask)
    if storage != inner:
        array = array.view(inner)
    for depth, one in enumerate(reversed(lists)):
        is_outer = depth == len(lists) - 1
        array = pa.FixedSizeListArray.from_arrays(
            array, type=one, mask=pa.array(mask) if is_outer and mask is not None else None
        )
    return array
