"""Hashes of the key columns of a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hpcstream.columns.arrays import (
    LARGE_TYPE_OF_VIEW,
    binary_views,
    fixed_values,
    is_binary_type,
    is_word_type,
    key_words,
    stored,
    validity,
)
from hpcstream.kernels import hashing

Hashes = npt.NDArray[np.uint64]

_WIDE_TYPES = (pa.types.is_decimal, pa.types.is_fixed_size_binary)


def hash_keys(batch: pa.RecordBatch, columns: Sequence[str]) -> Hashes:
    """Return the hash of each row's key, the same on every machine.

    Equal values have equal hashes whatever the width of their type: int32 and int64, string
    and large_string, a dictionary and its plain values. All nulls have the same hash.

    Parameters
    ----------
    batch : pa.RecordBatch
    columns : sequence of str
        Key columns, at least one; their order matters.

    Returns
    -------
    uint64[n_rows]

    Raises
    ------
    TypeError
        A column's type cannot be a key, such as a floating-point or nested type.
    """
    if not columns:
        raise ValueError("hash_keys needs at least one key column; got none")
    hashes = hash_array(batch.column(columns[0]))
    for name in columns[1:]:
        hashing.combine_hashes(hash_array(batch.column(name)), hashes)
    return hashes


def single_words(batch: pa.RecordBatch, columns: Sequence[str]) -> npt.NDArray[np.int64] | None:
    """Return keys as words, int64[n_rows], if the kernels can hash them directly.

    None if there are several columns, nulls, or values that do not fit in a word.
    """
    array = batch.column(columns[0])
    if len(columns) > 1 or not is_word_type(array.type) or array.null_count:
        return None
    return key_words(array)


def hash_array(array: pa.Array) -> Hashes:
    """Return the hash of each value of one key column, as uint64[n_rows]."""
    array = stored(array)
    hashes = np.empty(len(array), dtype=np.uint64)
    data_type = array.type
    if is_word_type(data_type):
        hashing.hash_words(key_words(array), hashes)
    elif is_binary_type(data_type):
        hashing.hash_binary(*binary_views(array), hashes)
    elif pa.types.is_dictionary(data_type):
        if len(array.dictionary) > len(array):  # a small slice of a large table
            return hash_array(array.dictionary_decode())
        indices = key_words(array.indices)
        hashing.gather_hashes(hash_array(array.dictionary), indices, hashes)
    elif pa.types.is_null(data_type):
        hashes.fill(hashing.NULL_HASH)
    elif data_type in LARGE_TYPE_OF_VIEW:
        return hash_array(array.cast(LARGE_TYPE_OF_VIEW[data_type]))
    else:
        _hash_wide(array, hashes)
    valid = validity(array)
    if valid is not None:
        hashing.hash_nulls(valid, hashes)
    return hashes


def _hash_wide(array: pa.Array, out_hashes: Hashes) -> None:
    if not any(is_type(array.type) for is_type in _WIDE_TYPES):
        raise TypeError(
            f"a column of type {array.type} cannot be a key; use an integer, boolean, string, "
            "binary, date, time, timestamp, decimal or dictionary column"
        )
    records = fixed_values(array).reshape(-1).view(np.uint8)
    hashing.hash_records(records, array.type.byte_width, out_hashes)
