"""An index of a table's keys: from the key columns of a batch to row groups of the table.

Each key column is turned into codes by an index of its own; further columns are
paired with the first ones and indexed again, so that a key of any number of
columns ends as one code. Nulls have no code: null matches nothing, as in SQL.

Importing this module loads Numba; `JoinTable` does so with its first batch.
"""

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
from hpcstream.columns.selection import Rows, take_column
from hpcstream.kernels import hashing, join, string_lookup

Codes = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]
Binary = tuple[npt.NDArray[np.integer], npt.NDArray[np.uint8]]

_FEW_ROWS = 4_096
_OFFSETS = (*range(0, 64, 4), 1 << 40)  # of words in strings; the last: the last eight bytes
_WHOLE = (string_lookup.WHOLE, 0)
_ODD = np.uint64(0x9E3779B97F4A7C15)
_ALL_ROWS: Rows = np.zeros(0, dtype=np.int32)


class KeyIndex:
    """The distinct keys of a table and the rows that have them.

    Parameters
    ----------
    columns : sequence of pa.Array
        The key columns of the table, without nulls.

    Attributes
    ----------
    order : int64[n_rows]
        The table's rows, grouped by code, otherwise in their order.
    starts : int64[n_codes + 1]
        Code ``c`` has the rows ``order[starts[c]:starts[c + 1]]``.
    is_unique : bool
        Whether no key occurs twice; then code and row number are the same.
    """

    def __init__(self, columns: Sequence[pa.Array]) -> None:
        self._columns = [_column_index(column) for column in columns]
        codes = self._columns[0].codes
        n_codes = self._columns[0].n_codes
        self._pairs: list[_WordIndex] = []
        for column in self._columns[1:]:
            pairs = _WordIndex(_pair(codes, column.codes, column.n_codes))
            self._pairs.append(pairs)
            codes, n_codes = pairs.codes, pairs.n_codes
        self.order: Ints = np.argsort(codes, kind="stable").astype(np.int64)
        counts = np.bincount(codes, minlength=n_codes)
        self.starts: Ints = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self.is_unique = n_codes == len(codes)

    def find(self, columns: Sequence[pa.Array], rows: Rows | None = None) -> Codes:
        """Return the code of each row's key, -1 where the table does not have it.

        Parameters
        ----------
        columns : sequence of pa.Array
        rows : int32[n] or None
            Which rows; None: all.
        """
        if rows is not None:
            if not len(rows):
                return np.zeros(0, dtype=np.int32)
            index, column = self._columns[0], columns[0]
            if len(columns) == 1 and isinstance(index, _BinaryIndex) and _is_lookup_ready(column):
                return index.find_array(column, rows)
            columns = [take_column(column, rows) for column in columns]
        codes = _find(self._columns[0], columns[0])
        for pairs, index, column in zip(self._pairs, self._columns[1:], columns[1:], strict=True):
            words = _pair(codes, _find(index, column), index.n_codes)
            codes = pairs.find(words)
        return codes


class _WordIndex:
    """Codes of int64 keys."""

    def __init__(self, words: Ints) -> None:
        n_rows = len(words)
        self.codes: Codes = np.empty(n_rows, dtype=np.int32)
        first_rows: Ints = np.empty(n_rows, dtype=np.int64)
        self._slots = _empty_slots(n_rows)
        hashes = _hash_words(words)
        self.n_codes = int(join.index_words(words, hashes, self._slots, self.codes, first_rows))
        self._words = words[first_rows[: self.n_codes]]

    def find(self, words: Ints) -> Codes:
        codes: Codes = np.empty(len(words), dtype=np.int32)
        join.find_words(words, _hash_words(words), self._words, self._slots, codes)
        return codes

    def find_array(self, array: pa.Array) -> Codes:
        return self.find(_words(array))


class _BinaryIndex:
    """Codes of strings of bytes."""

    def __init__(self, array: pa.Array) -> None:
        self.codes, first_rows = self._enter(array)
        if len(first_rows) < len(array):  # the index keeps each key once
            self._enter(array.take(pa.array(first_rows)))

    def _enter(self, array: pa.Array) -> tuple[Codes, Ints]:
        """Enter keys; return the code of each, and the first row of each code."""
        keys, n_rows = _binary(array), len(array)
        codes: Codes = np.empty(n_rows, dtype=np.int32)
        first_rows: Ints = np.empty(n_rows, dtype=np.int64)
        self._data = keys[1]
        for self._offsets, most_steps in (
            (_distinguishing_offsets(keys), 4 * n_rows),
            (_WHOLE, 1 << 62),
        ):
            records = np.zeros(string_lookup.RECORD_WORDS * n_rows, dtype=np.uint64)
            self._slots = _empty_slots(n_rows)
            into = (records, self._slots, codes, first_rows)
            self.n_codes = int(string_lookup.enter(*keys, self._offsets, most_steps, *into))
            if self.n_codes >= 0:
                break
        self._records = records
        return codes, first_rows[: self.n_codes]

    def find_array(self, array: pa.Array, rows: Rows = _ALL_ROWS) -> Codes:
        codes: Codes = np.empty(len(rows) or len(array), dtype=np.int32)
        table = (self._data, self._records, self._offsets, self._slots)
        string_lookup.find(*_binary(array), rows, *table, codes)
        return codes


def _distinguishing_offsets(keys: Binary) -> tuple[int, int]:
    """Return the two offsets, perhaps equal, whose words distinguish the most of some keys."""
    offsets, data = keys[0][: _FEW_ROWS + 1], keys[1]
    words = np.empty((len(_OFFSETS), len(offsets) - 1), dtype=np.uint64)
    for offset, row in zip(_OFFSETS, words, strict=True):
        string_lookup.words_at(offsets, data, offset, row)
    first = int(np.argmax([len(np.unique(row)) for row in words]))
    mixed = words + words[first] * _ODD
    second = int(np.argmax([len(np.unique(row)) for row in mixed]))
    return _OFFSETS[first], _OFFSETS[second]


def _is_lookup_ready(column: pa.Array) -> bool:
    """Whether keys can be looked up without a copy, because there are no nulls."""
    return is_binary_type(column.type) and column.null_count == 0


def _column_index(array: pa.Array) -> _WordIndex | _BinaryIndex:
    array = _plain(array)
    if _has_words(array.type):
        return _WordIndex(_words(array))
    return _BinaryIndex(array)


def _find(index: _WordIndex | _BinaryIndex, array: pa.Array) -> Codes:
    if pa.types.is_null(array.type):
        return np.full(len(array), join.NO_MATCH, dtype=np.int32)
    if pa.types.is_dictionary(array.type):
        return _find_in_dictionary(index, array)
    array = _plain(array)
    codes = index.find_array(array)
    valid = validity(array)
    if valid is not None:
        codes[~valid] = join.NO_MATCH
    return codes


def _find_in_dictionary(index: _WordIndex | _BinaryIndex, array: pa.DictionaryArray) -> Codes:
    """Return codes through the dictionary, each of whose values is looked up once."""
    codes_of_values = np.append(_find(index, array.dictionary), np.int32(join.NO_MATCH))
    indices = key_words(array.indices)
    valid = validity(array.indices)
    if valid is not None:
        indices = np.where(valid, indices, -1)  # the last: the one appended
    return codes_of_values[indices]


def _pair(left: Codes, right: Codes, n_right: int) -> Ints:
    words = np.empty(len(left), dtype=np.int64)
    join.pair_codes(left, right, n_right, words)
    return words


def _plain(array: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        return _plain(array.dictionary_decode())
    array = stored(array)
    large_type = LARGE_TYPE_OF_VIEW.get(array.type)
    return array if large_type is None else array.cast(large_type)


def _has_words(data_type: pa.DataType) -> bool:
    return pa.types.is_floating(data_type) or is_word_type(data_type)


def _words(array: pa.Array) -> Ints:
    if not pa.types.is_floating(array.type):
        return key_words(array)
    # Equal numbers must have equal bits: -0.0 becomes 0.0, and there is one NaN.
    values = fixed_values(array).astype(np.float64) + 0.0
    values[np.isnan(values)] = np.nan
    return values.view(np.int64)


def _binary(array: pa.Array) -> Binary:
    if is_binary_type(array.type):
        return binary_views(array)
    values = fixed_values(array)  # decimals and fixed_size_binary: rows of equal width
    data = values.reshape(-1).view(np.uint8)
    width = array.type.byte_width
    offsets = np.arange(0, (len(array) + 1) * width, width, dtype=np.int64)
    offsets.setflags(write=False)
    return offsets, data


def _hash_words(words: Ints) -> npt.NDArray[np.uint64]:
    hashes = np.empty(len(words), dtype=np.uint64)
    hashing.hash_words(words, hashes)
    return hashes


def _empty_slots(n_rows: int) -> Codes:
    """Return an index of at least twice as many slots as rows.

    Sixteen times as many while that fits a cache: then nearly every key is in its first
    slot, and the branch that finds it there is predicted.
    """
    slots_a_row = 16 if n_rows <= _FEW_ROWS else 2
    n_slots = 1 << max(int(slots_a_row * n_rows - 1).bit_length(), 1)
    return np.full(n_slots, join.NO_MATCH, dtype=np.int32)
