"""Arrow columns as HDF5 datasets, and back.

::

    /table                  group; its attribute "arrow_schema" says the exact types
    /table/time             a column: one dataset, row by row, chunked
    /table/time.valid       uint8, only if the column has nulls: 0 where a value is null
    /table/frame            a fixed-size list is a dataset of more dimensions: (rows, 480, 640)
    /table/frame.valid-2    uint8 (rows, 480, 640), only if there are nulls inside of frames

A dataset that says which values are valid has the attribute "mask_of", the name of the
dataset that it belongs to, and its name is in the schema, so that a user's column may
have any name. A column whose name is none for HDF5 (it has a slash, say) is in a dataset
of another name, which is in the schema too. A NUL in a text, where HDF5 would end it, is
written as the bytes C0 80, as Java does; the schema says which columns have any.

Values go as they are, bit by bit. Files of older versions have none of the three: there
``time.valid`` is found by its name, unless it is a column itself.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.columns.arrays import fixed_values, validity

SCHEMA = "arrow_schema"
MASK_OF = "mask_of"
OLD_MASK = ".valid"

Values = npt.NDArray[Any]

_DATASET, _MASKS, _NUL = b"hdf5.dataset", b"hdf5.masks", b"hdf5.nul"
_NUL_WRITTEN = b"\xc0\x80"  # never part of UTF-8


@dataclass
class ColumnEntry:
    """The entry of a column in the schema of its group: its type and its datasets.

    Attributes
    ----------
    field : pa.Field
        Name and type.
    dataset : str
        Of its values.
    masks : list of str or None
        Of the datasets that say which values are valid: of the rows, of the elements of
        each row, and so on inwards; None where all are.
    has_nul : bool
        Whether there is a NUL in a text.
    """

    field: pa.Field
    dataset: str
    masks: list[str | None] = field(default_factory=list)
    has_nul: bool = False


def layout(schema: pa.Schema) -> list[ColumnEntry]:
    """Return the entries of the columns of a schema.

    Raises
    ------
    TypeError
        HDF5 has no dataset for a column.
    """
    entries: list[ColumnEntry] = []
    taken = set(schema.names)
    for i, column in enumerate(schema):
        try:
            list_sizes = dataset_layout(column.type)[1]
        except TypeError as error:
            raise TypeError(f"column {column.name!r}: {error}") from None
        is_name = (
            column.name not in ("", ".") and "/" not in column.name and "\0" not in column.name
        )
        name = column.name if is_name else unused(f"column-{i}", taken)
        taken.add(name)
        stored = pa.field(column.name, _stored_type(column.type))
        entries.append(ColumnEntry(stored, name, [None] * (1 + len(list_sizes))))
    return entries


def unused(name: str, taken: Collection[str]) -> str:
    """Return an unused name: this one, or a variant."""
    while name in taken:
        name += "_"
    return name


def schema_text(entries: list[ColumnEntry]) -> str:
    """Return the entries as text for an attribute."""
    fields = []
    for entry in entries:
        said: dict[bytes, str] = {}
        if entry.dataset != entry.field.name:
            said[_DATASET] = entry.dataset
        if any(entry.masks):
            said[_MASKS] = json.dumps(entry.masks)
        if entry.has_nul:
            said[_NUL] = "1"
        fields.append(entry.field.with_metadata(said or None))
    metadata = {"hpcstream.hdf5": "2"}
    return base64.b64encode(pa.schema(fields, metadata).serialize().to_pybytes()).decode()


def stored_entries(text: str | bytes, present: Collection[str]) -> list[ColumnEntry]:
    """Return the entries in an attribute, of this version or of an older one.

    Parameters
    ----------
    present : collection of str
        Names in the group.

    Raises
    ------
    ValueError
        The attribute is damaged.
    """
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text, validate=True)))
    is_old = not schema.metadata or b"hpcstream.hdf5" not in schema.metadata
    entries = []
    for column in schema:
        said = column.metadata or {}
        name = said.get(_DATASET, column.name.encode()).decode()
        masks = json.loads(said[_MASKS]) if _MASKS in said else []
        old = column.name + OLD_MASK
        if is_old and old in present and old not in schema.names:
            masks = [old]
        entries.append(ColumnEntry(column.remove_metadata(), name, masks, _NUL in said))
    return entries


def dataset_layout(data_type: pa.DataType) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Return the type of a column's dataset, and its dimensions after the first.

    Raises
    ------
    TypeError
        HDF5 has no dataset for such a column.
    """
    import h5py

    inner, shape = split_lists(_decoded(data_type))
    if is_text(inner):
        return h5py.string_dtype(), shape
    storage = _storage(inner)
    if storage is None:
        raise TypeError(f"HDF5 datasets hold numbers, times and strings, not {data_type}")
    return np.dtype(storage.to_pandas_dtype()), shape


def split_lists(data_type: pa.DataType) -> tuple[pa.DataType, tuple[int, ...]]:
    """Return the type of the values in fixed-size lists of any depth, and the sizes."""
    sizes: list[int] = []
    while pa.types.is_fixed_size_list(data_type):
        sizes.append(data_type.list_size)
        data_type = data_type.value_type
    return data_type, tuple(sizes)


def is_text(data_type: pa.DataType) -> bool:
    """Whether values of the type are strings."""
    return bool(pa.types.is_string(data_type) or pa.types.is_large_string(data_type))


def _decoded(data_type: pa.DataType) -> pa.DataType:
    return data_type.value_type if pa.types.is_dictionary(data_type) else data_type


def _stored_type(data_type: pa.DataType) -> pa.DataType:
    """Return the type in which a column is read back: dictionary indices fit several files."""
    if pa.types.is_dictionary(data_type):
        index = data_type.index_type if data_type.index_type.bit_width >= 32 else pa.int32()
        return pa.dictionary(index, data_type.value_type, data_type.ordered)
    return data_type


def _storage(data_type: pa.DataType) -> pa.DataType | None:
    """Return the number type in which a value is stored."""
    if pa.types.is_date32(data_type) or pa.types.is_time32(data_type):
        return pa.int32()
    if pa.types.is_temporal(data_type) and data_type.bit_width == 64:
        return pa.int64()
    plain = pa.types.is_integer(data_type) or pa.types.is_floating(data_type)
    return data_type if plain or pa.types.is_boolean(data_type) else None


# -- writing -------------------------------------------------------------------------------


def to_values(column: pa.Array) -> tuple[Values, list[Values | None], bool]:
    """Return a column as the values of its dataset, and which of them are valid.

    Returns
    -------
    values : dtype[n_rows, ...]
        Zero, or the empty text, where a value is null.
    masks : list of uint8[n_rows, ...] or None
        By depth, as in `ColumnEntry`; None: all are valid.
    has_nul : bool
        Whether there is a NUL in a text.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    shape = [len(column)]
    masks: list[Values | None] = []
    outer: Values | None = None  # which values are not inside of a null
    while pa.types.is_fixed_size_list(column.type):
        size = column.type.list_size
        mask, present = _mask(column, outer)
        masks.append(None if mask is None else mask.reshape(shape))
        outer = None if present is None else np.repeat(present, size)
        column = column.values.slice(column.offset * size, len(column) * size)
        shape.append(size)
    mask, present = _mask(column, outer)
    masks.append(None if mask is None else mask.reshape(shape))
    values, has_nul = _texts(column, present) if is_text(column.type) else _numbers(column, present)
    return values.reshape(shape), masks, has_nul


def _mask(column: pa.Array, outer: Values | None) -> tuple[Values | None, Values | None]:
    """Return which values are valid or inside of a null, and which are neither null nor inside.

    None where all are.
    """
    valid = validity(column)
    if valid is None:
        return None, outer
    if outer is None:
        return valid.astype(np.uint8), valid
    mask = valid | ~outer
    return None if mask.all() else mask.astype(np.uint8), valid & outer


def _numbers(column: pa.Array, present: Values | None) -> tuple[Values, bool]:
    values: Values = fixed_values(column)
    if pa.types.is_boolean(column.type):
        values = values.view(np.bool_)
    if present is not None:
        values = np.where(present, values, values.dtype.type(0))
    return values, False


def _texts(column: pa.Array, present: Values | None) -> tuple[Values, bool]:
    column = column.cast(pa.large_binary())
    if present is not None:
        column = pc.if_else(pa.array(present), column, pa.scalar(b"", pa.large_binary()))
    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, np.int64)[[column.offset, column.offset + len(column)]]
    data = b"" if data is None else data
    has_nul = not np.frombuffer(data, np.uint8)[ends[0] : ends[1]].all()
    if has_nul:
        column = pc.replace_substring(column, b"\0", _NUL_WRITTEN)
    values: Values = column.to_numpy(zero_copy_only=False)
    return values, has_nul


# -- reading -------------------------------------------------------------------------------


def from_values(
    values: Values, masks: list[Values | None], data_type: pa.DataType, *, has_nul: bool = False
) -> pa.Array:
    """Return the column of a dataset's values; arguments as `to_values` returns them.

    Raises
    ------
    pa.ArrowInvalid
        A text is not UTF-8.
    """
    inner, sizes = split_lists(_decoded(data_type))
    valid = [None if mask is None else np.ascontiguousarray(mask).reshape(-1) for mask in masks]
    valid += [None] * (1 + len(sizes) - len(valid))
    flat = np.ascontiguousarray(values).reshape(-1)
    array = _text_array(flat, inner, has_nul) if is_text(inner) else _number_array(flat, inner)
    array = _with_nulls(array, valid[-1])
    n_rows = values.shape[0]
    nested = _decoded(data_type)
    list_types = []
    for _ in sizes:
        list_types.append(nested)
        nested = nested.value_type
    for depth in reversed(range(len(sizes))):
        length = n_rows * int(np.prod(sizes[:depth], dtype=np.int64))
        bits = _bits(valid[depth])
        array = pa.Array.from_buffers(list_types[depth], length, [bits], children=[array])
    if pa.types.is_dictionary(data_type):
        encoded = array.dictionary_encode()
        return pa.DictionaryArray.from_arrays(
            encoded.indices.cast(data_type.index_type),
            encoded.dictionary,
            ordered=data_type.ordered,
        )
    return array


def _number_array(values: Values, data_type: pa.DataType) -> pa.Array:
    if pa.types.is_boolean(data_type):
        return pa.array(values)
    if values.dtype.kind in "Mm":
        return pa.array(values)  # not a time is null
    return pa.Array.from_buffers(data_type, len(values), [None, pa.py_buffer(values)])


def _text_array(values: Values, data_type: pa.DataType, has_nul: bool) -> pa.Array:
    large = pa.types.is_large_string(data_type)
    binary = pa.large_binary() if large else pa.binary()
    column = pa.array(values.astype(object, copy=False), binary)
    if has_nul:
        column = pc.replace_substring(column, _NUL_WRITTEN, b"\0")
    return column.cast(data_type)


def _with_nulls(array: pa.Array, valid: Values | None) -> pa.Array:
    if valid is None:
        return array
    assert array.null_count == 0, "only what we wrote has masks"
    buffers = [_bits(valid), *array.buffers()[1:]]
    return pa.Array.from_buffers(array.type, len(array), buffers)


def _bits(valid: Values | None) -> pa.Buffer | None:
    return None if valid is None else pa.array(valid != 0).buffers()[1]
