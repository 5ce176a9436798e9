"""Converts Arrow arrays to NumPy arrays and back.

Views respect the array's offset and share its memory, unless the type has no NumPy
equivalent (booleans are bits in Arrow, so they are unpacked). **All returned arrays are
read-only**, also copies: a writable array is a different type for Numba, which would
compile each kernel twice.

The values of nulls are undefined; see `validity`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

AnyArray = npt.NDArray[Any]  # the dtype follows from the Arrow type

LARGE_TYPE_OF_VIEW = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
"""The type to which views are cast if offsets are needed, or if Arrow has no kernel for views."""

_LIB = pa.lib
_BOOL = _LIB.Type_BOOL

_DTYPE_OF_ID: dict[int, np.dtype] = {
    _LIB.Type_INT8: np.dtype(np.int8),
    _LIB.Type_INT16: np.dtype(np.int16),
    _LIB.Type_INT32: np.dtype(np.int32),
    _LIB.Type_INT64: np.dtype(np.int64),
    _LIB.Type_UINT8: np.dtype(np.uint8),
    _LIB.Type_UINT16: np.dtype(np.uint16),
    _LIB.Type_UINT32: np.dtype(np.uint32),
    _LIB.Type_UINT64: np.dtype(np.uint64),
    _LIB.Type_HALF_FLOAT: np.dtype(np.float16),
    _LIB.Type_FLOAT: np.dtype(np.float32),
    _LIB.Type_DOUBLE: np.dtype(np.float64),
    _LIB.Type_DATE32: np.dtype(np.int32),
    _LIB.Type_DATE64: np.dtype(np.int64),
    _LIB.Type_TIME32: np.dtype(np.int32),
    _LIB.Type_TIME64: np.dtype(np.int64),
    _LIB.Type_TIMESTAMP: np.dtype(np.int64),
    _LIB.Type_DURATION: np.dtype(np.int64),
    _LIB.Type_DECIMAL32: np.dtype(np.int32),
    _LIB.Type_DECIMAL64: np.dtype(np.int64),
}
_WIDE_ITEM_OF_ID: dict[int, np.dtype] = {
    _LIB.Type_DECIMAL128: np.dtype(np.int64),
    _LIB.Type_DECIMAL256: np.dtype(np.int64),
    _LIB.Type_FIXED_SIZE_BINARY: np.dtype(np.uint8),
}
_OFFSET_DTYPE_OF_ID: dict[int, np.dtype] = {
    _LIB.Type_BINARY: np.dtype(np.int32),
    _LIB.Type_STRING: np.dtype(np.int32),
    _LIB.Type_LARGE_BINARY: np.dtype(np.int64),
    _LIB.Type_LARGE_STRING: np.dtype(np.int64),
}
_FLOAT_IDS = frozenset((_LIB.Type_HALF_FLOAT, _LIB.Type_FLOAT, _LIB.Type_DOUBLE))
_NO_BYTES = np.empty(0, dtype=np.uint8)
_NO_BYTES.setflags(write=False)


def stored_type(data_type: pa.DataType) -> pa.DataType:
    """Return the storage type of an extension type; other types unchanged."""
    if isinstance(data_type, pa.BaseExtensionType):
        return stored_type(data_type.storage_type)
    return data_type


def stored(array: pa.Array) -> pa.Array:
    """Return the storage of an extension array; other arrays unchanged."""
    return stored(array.storage) if isinstance(array, pa.ExtensionArray) else array


def labelled(array: pa.Array, data_type: pa.DataType) -> pa.Array:
    """Return the array of a type, possibly an extension type, with the given storage."""
    if not isinstance(data_type, pa.BaseExtensionType):
        return array
    inner = labelled(array, data_type.storage_type)
    return pa.ExtensionArray.from_storage(data_type, inner)


def is_word_type(data_type: pa.DataType) -> bool:
    """Whether `key_words` can represent a value of this type as one int64."""
    type_id = data_type.id
    return type_id == _BOOL or (type_id in _DTYPE_OF_ID and type_id not in _FLOAT_IDS)


def can_be_key(data_type: pa.DataType) -> bool:
    """Whether equal values of a type, or of a dictionary of it, have equal bytes."""
    if pa.types.is_dictionary(data_type):
        return can_be_key(data_type.value_type)
    kept = stored_type(data_type)
    has_bytes = is_word_type(kept) or is_binary_type(kept) or kept in LARGE_TYPE_OF_VIEW
    return has_bytes or kept.id in _WIDE_ITEM_OF_ID


def is_binary_type(data_type: pa.DataType) -> bool:
    """Whether the type is a string or binary type with offsets, as `binary_views` requires."""
    return data_type.id in _OFFSET_DTYPE_OF_ID


def fixed_values(array: pa.Array) -> AnyArray:
    """Return the values of a fixed-width array.

    Parameters
    ----------
    array : pa.Array
        Integer, float, boolean, temporal, decimal or fixed_size_binary.

    Returns
    -------
    dtype[n_rows] or dtype[n_rows, words]
        Temporal types as their integers, booleans as uint8 0 and 1 (a copy),
        decimal128 as int64[n_rows, 2] (low word first), decimal256 as
        int64[n_rows, 4], fixed_size_binary as uint8[n_rows, width].

    Raises
    ------
    TypeError
        The type has no fixed width.
    """
    data_type = array.type
    type_id = data_type.id
    dtype = _DTYPE_OF_ID.get(type_id)
    if dtype is not None:
        return _view(array.buffers()[1], dtype, array.offset, len(array))
    if type_id == _BOOL:
        return _unpack(array.buffers()[1], array.offset, len(array))
    item = _WIDE_ITEM_OF_ID.get(type_id)
    if item is None:
        raise TypeError(f"a column of type {data_type} has no fixed-width values")
    items = data_type.byte_width // item.itemsize
    flat = _view(array.buffers()[1], item, array.offset * items, len(array) * items)
    return flat.reshape(len(array), items)


def record_array(values: AnyArray) -> pa.Array:
    """Return the rows of an array of shape (n_rows, n_items) as fixed_size_binary."""
    n_rows, n_items = values.shape
    buffers = [None, pa.py_buffer(np.ascontiguousarray(values))]
    return pa.Array.from_buffers(pa.binary(n_items * values.itemsize), n_rows, buffers)


def validity(array: pa.Array) -> npt.NDArray[np.bool_] | None:
    """Return which rows are not null, or None if no row is null."""
    if array.null_count == 0:
        return None
    bitmap = array.buffers()[0]
    if bitmap is None:  # the null type has no bitmap
        valid = np.zeros(len(array), dtype=np.bool_)
        valid.setflags(write=False)
        return valid
    return _unpack(bitmap, array.offset, len(array)).view(np.bool_)


def fixed_row_bytes(schema: pa.Schema) -> float | None:
    """Return the bytes per row (of a dictionary its indices), or None if they vary."""
    try:
        return float(sum(field.type.bit_width for field in schema)) / 8
    except ValueError:  # strings, lists and such have no width
        return None


def binary_views(array: pa.Array) -> tuple[AnyArray, npt.NDArray[np.uint8]]:
    """Return offsets and bytes of a string or binary array.

    Returns
    -------
    offsets : int32[n_rows + 1] or int64[n_rows + 1]
        Row ``i`` is ``data[offsets[i]:offsets[i + 1]]``; int64 for the large types.
        The first is not 0 when the array is a slice.
    data : uint8[n_bytes]
        The whole byte buffer, also what lies outside a slice.
    """
    dtype = _OFFSET_DTYPE_OF_ID.get(array.type.id)
    if dtype is None:
        raise TypeError(f"a column of type {array.type} has no offsets; expected string or binary")
    _, offsets, data = array.buffers()
    n_rows = len(array)
    if n_rows == 0:
        return _zeros(1, dtype), _NO_BYTES
    data_view = _NO_BYTES if data is None else _view(data, _UINT8, 0, data.size)
    return _view(offsets, dtype, array.offset, n_rows + 1), data_view


def key_words(array: pa.Array) -> npt.NDArray[np.int64]:
    """Return each value as one int64 word; equal values have equal words.

    Zero-copy for types of 8 bytes; uint64 keeps its bits. Narrower types are
    widened, so that int32 and int64 columns of equal values give equal words.

    Raises
    ------
    TypeError
        The type is not an integer, boolean, date, time, timestamp, duration,
        decimal32 or decimal64.
    """
    if not is_word_type(array.type):
        raise TypeError(f"a value of type {array.type} does not fit one int64 word")
    values = fixed_values(array)
    if values.dtype.itemsize == 8:
        return values.view(np.int64)
    words = values.astype(np.int64)
    words.setflags(write=False)
    return words


def words_to_array(
    words: npt.NDArray[np.int64], valid: npt.NDArray[np.bool_] | None, data_type: pa.DataType
) -> pa.Array:
    """Return the array whose `key_words` are ``words``.

    Zero-copy for types of 8 bytes: ``words`` must not be written afterwards.

    Parameters
    ----------
    words : int64[n_rows]
        Values that fit ``data_type``.
    valid : bool[n_rows] or None
        False where the array is null; None for no nulls.
    data_type : pa.DataType
        A type that `is_word_type` accepts.
    """
    if not is_word_type(data_type):
        raise TypeError(f"int64 words cannot become a column of type {data_type}")
    bitmap = None if valid is None else _pack(valid)
    if data_type.id == _BOOL:
        values = _pack(words != 0)
    else:
        dtype = _DTYPE_OF_ID[data_type.id]
        same_width = dtype.itemsize == 8
        values = pa.py_buffer(np.ascontiguousarray(words) if same_width else words.astype(dtype))
    return pa.Array.from_buffers(data_type, len(words), [bitmap, values])


_UINT8 = np.dtype(np.uint8)


def _view(buffer: pa.Buffer | None, dtype: np.dtype, offset: int, n_items: int) -> AnyArray:
    if buffer is None or n_items == 0:
        return _zeros(n_items, dtype)
    view: AnyArray = np.ndarray((n_items,), dtype, buffer, offset * dtype.itemsize)
    view.setflags(write=False)
    return view


def _zeros(n_items: int, dtype: np.dtype) -> AnyArray:
    zeros = np.zeros(n_items, dtype=dtype)
    zeros.setflags(write=False)
    return zeros


def _unpack(bitmap: pa.Buffer | None, offset: int, n_bits: int) -> npt.NDArray[np.uint8]:
    if bitmap is None or n_bits == 0:
        return _zeros(n_bits, _UINT8)
    first_byte, first_bit = divmod(offset, 8)
    packed = np.ndarray(((first_bit + n_bits + 7) // 8,), _UINT8, bitmap, first_byte)
    bits = np.unpackbits(packed, count=first_bit + n_bits, bitorder="little")[first_bit:]
    bits.setflags(write=False)
    return bits


def _pack(bits: npt.NDArray[np.bool_]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(bits, bitorder="little"))
