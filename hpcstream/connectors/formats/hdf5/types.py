"""The types of HDF5 datasets that others wrote, and how their values are read.

Numbers of any byte order, enumerations (as their numbers), bit fields (as unsigned
numbers), booleans, texts of fixed or any length, times as h5py stores those of NumPy,
and arrays of these. Other types have no column: references, opaque bytes, arrays of
varying length, complex numbers, floats of more than 64 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from hpcstream.connectors.formats.hdf5.columns import Values

_INTEGER_BYTES = (1, 2, 4, 8)


class UnreadableType(Exception):
    """A dataset has a type that no column can hold; the message names it."""


def type_of(dataset: Any, fields: Sequence[str] = ()) -> pa.DataType:
    """Return the type of a row of a dataset, or of a field of its rows.

    Raises
    ------
    UnreadableType
        No column can hold it.
    """
    dtype = _dtype(dataset)
    for name in fields:
        dtype = dtype[name]
    data_type = _value_type(dtype.base)
    for size in reversed((*dataset.shape[1:], *dtype.shape)):
        data_type = pa.list_(data_type, size)
    return data_type


def field_names(dataset: Any, fields: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the fields of a dataset's rows, or of a field of them; none unless compound."""
    dtype = _dtype(dataset)
    for name in fields:
        dtype = dtype[name]
    return tuple(dtype.names or ())


def read_values(dataset: Any, fields: Sequence[str], rows: slice) -> Values:
    """Return rows of a dataset, or of a field of them, in the byte order of this machine."""
    import h5py

    odd = _odd_integer(dataset.id.get_type())
    if odd is not None:
        values = np.empty((rows.stop - rows.start, *dataset.shape[1:]), odd)
        space = dataset.id.get_space()
        space.select_hyperslab((rows.start, *[0] * (len(dataset.shape) - 1)), values.shape)
        dataset.id.read(h5py.h5s.create_simple(values.shape), space, values)
        return values
    values = dataset.fields(fields[0])[rows] if fields else dataset[rows]
    for name in fields[1:]:
        values = values[name]
    native: Values = values.astype(values.dtype.newbyteorder("="), copy=False)
    return native


def _dtype(dataset: Any) -> np.dtype[Any]:
    """Return the NumPy type of a row; integers of 3, 5, 6, 7 bytes get the next larger type."""
    odd = _odd_integer(dataset.id.get_type())
    if odd is not None:
        return odd
    try:
        dtype: np.dtype[Any] = dataset.dtype
    except TypeError as error:
        raise UnreadableType(str(error)) from error
    return dtype


def _odd_integer(stored: Any) -> np.dtype[Any] | None:
    import h5py

    if not isinstance(stored, h5py.h5t.TypeIntegerID) or stored.get_size() in _INTEGER_BYTES:
        return None
    if stored.get_size() > _INTEGER_BYTES[-1]:
        raise UnreadableType(f"integers of {stored.get_size()} bytes")
    size = next(size for size in _INTEGER_BYTES if size >= stored.get_size())
    return np.dtype(f"{'i' if stored.get_sign() else 'u'}{size}")


def _value_type(dtype: np.dtype[Any]) -> pa.DataType:
    import h5py

    if h5py.check_string_dtype(dtype) is not None:
        return pa.string()
    if dtype.kind in "biufMm":
        try:
            return pa.from_numpy_dtype(dtype.newbyteorder("="))
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid, ValueError):
            raise UnreadableType(f"values of type {dtype}") from None
    raise UnreadableType(_in_words(dtype))


def _in_words(dtype: np.dtype[Any]) -> str:
    import h5py

    if dtype.names is not None:
        return f"a compound of {', '.join(dtype.names)}"
    if h5py.check_ref_dtype(dtype) is not None:
        return "references"
    inner = h5py.check_vlen_dtype(dtype)
    if inner is not None:
        return f"arrays of {inner} of varying length"
    return {"c": f"complex numbers ({dtype})", "V": f"opaque bytes ({dtype})"}.get(
        dtype.kind, f"values of type {dtype}"
    )
