"""Interned keys: strings, or several columns, represented by small integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hpcstream.columns.arrays import (
    binary_views,
    fixed_values,
    is_binary_type,
    is_word_type,
    key_words,
    labelled,
    stored,
    stored_type,
    validity,
    words_to_array,
)
from hpcstream.columns.ownership import KeyGroups, Ownership, key_groups, null_group
from hpcstream.columns.selection import gather
from hpcstream.kernels import key_bytes
from hpcstream.state.arrays import NO_NULLS, Bools, Ints
from hpcstream.state.key_dictionary import KeyDictionary
from hpcstream.state.key_holder import KeyHolder
from hpcstream.state.key_index import Bytes, KeyIndex
from hpcstream.state.slices.table import Grouping
from hpcstream.state.table import StateTable

_SPARE_KEYS = 4096  # dead keys below this are not worth a rebuild


class InternedKeys:
    """Words for any key: the id of its bytes in a `KeyIndex`.

    The bytes of a single string column are read from the batch without a copy; its
    nulls come from the validity bitmap. Several columns are encoded row by row, nulls included.

    Parameters
    ----------
    fields : sequence of pa.Field
        Key columns with the types of their values (dictionaries decoded).
    """

    has_groups = True

    def __init__(self, fields: Sequence[pa.Field], index: KeyIndex | None = None) -> None:
        self._fields = tuple(fields)
        self._index = index or KeyIndex()
        self._last: tuple[pa.Array, Ints] | None = None  # a dictionary and the ids of its values
        self.generation = 0
        self._table = KeyDictionary(self._index, lambda: self.generation, self._groups_of)

    def tables(self) -> Sequence[StateTable]:
        """Return the tables of the keys by id."""
        return self._table, self._table.bytes_table

    def encode(self, batch: pa.RecordBatch) -> tuple[Ints, Bools]:
        """Return ids, and which keys are not null."""
        columns = [batch.column(field.name) for field in self._fields]
        if len(columns) > 1:
            offsets, data = encode_rows([_plain(column) for column in columns])
            return self._index.ids(offsets, data), NO_NULLS
        column = columns[0]
        valid = validity(column)
        if pa.types.is_dictionary(column.type) and self._suits(column):
            words = self._ids_of_dictionary(column, valid)
        else:
            words = self._index.ids(*_bytes_of(_plain(column)))
        return words, NO_NULLS if valid is None else valid

    def decode(self, words: Ints, is_null: Bools | None) -> list[pa.Array]:
        """Return the key columns of ids."""
        columns = self._columns(*self._index.keys(words), is_null)
        return [labelled(c, field.type) for c, field in zip(columns, self._fields, strict=True)]

    def _columns(self, offsets: Ints, data: Bytes, is_null: Bools | None) -> list[pa.Array]:
        """Return the key columns of keys given by their bytes."""
        types = [stored_type(field.type) for field in self._fields]
        if len(types) > 1:
            return decode_rows(offsets, data, types)
        valid = None if is_null is None else ~is_null
        return [_from_bytes(offsets, data, valid, types[0])]

    def _groups_of(self, offsets: Ints, data: Bytes) -> KeyGroups:
        """Return the key groups of keys given by their bytes, as the exchange computes them."""
        names = [str(number) for number in range(len(self._fields))]
        batch = pa.RecordBatch.from_arrays(self._columns(offsets, data, None), names=names)
        return key_groups(batch, names)

    def grouping(self) -> Grouping:
        """Return a function from the present ids to their key groups, to call in the background."""
        contents, known = self._table.contents(), self._table.groups

        def groups_of(words: Ints, is_null: Bools) -> KeyGroups:
            of_ids = known.of(contents)
            if not len(of_ids):  # all keys are null
                return np.full(len(words), null_group(), dtype=np.uint16)
            groups = of_ids.take(words, mode="clip")
            groups[is_null] = null_group()
            return groups

        return groups_of

    def owned(self, part: int, words: Ints, is_null: Bools, owned: Ownership) -> Bools:
        """Return which entries of a part that was merged an instance owns."""
        new_ids, owns_null = self._table.new_ids[part], null_group() in owned.groups
        if not len(new_ids):
            return is_null & owns_null
        kept: Bools = new_ids.take(words, mode="clip") >= 0
        return np.where(is_null, owns_null, kept)

    def translated(self, part: int, words: Ints) -> Ints:
        """Return the ids, here, of owned keys of a part that was merged."""
        new_ids = self._table.new_ids[part]
        if not len(new_ids):
            return np.zeros_like(words)
        return np.maximum(
            new_ids.take(words, mode="clip"), 0
        )  # the value under a null is arbitrary

    def forget_dead(self, holder: KeyHolder) -> None:
        """Remove keys without entries if they are more than half of all keys.

        The decision depends only on the entries, because ids determine the order of results.
        """
        n_spare = len(self._index) - _SPARE_KEYS
        if n_spare <= 0 or n_spare <= 2 * holder.n_key_uses():
            return
        self.generation += 1
        self._last = None
        live = np.unique(holder.live_keys())
        holder.replace_keys(self._index.keep(live[live < len(self._index)]))

    def _suits(self, column: pa.DictionaryArray) -> bool:
        return len(column.dictionary) <= len(column) or self._is_last(column.dictionary)

    def _is_last(self, dictionary: pa.Array) -> bool:
        """Whether this is the previous batch's dictionary: the same memory, not equal values."""
        return self._last is not None and _same_memory(self._last[0], dictionary)

    def _ids_of_dictionary(self, column: pa.DictionaryArray, valid: Bools | None) -> Ints:
        """Return ids through the dictionary, which is shorter than the column."""
        if len(column.dictionary) == 0:
            return _read_only(np.zeros(len(column), dtype=np.int64))
        if not self._is_last(column.dictionary):
            ids = self._index.ids(*_bytes_of(column.dictionary))
            self._last = (column.dictionary, ids)
        assert self._last is not None
        ids = self._last[1]
        if valid is None and column.type.index_type == pa.int32():
            return _read_only(gather(ids, fixed_values(column.indices)))
        indices = key_words(column.indices)
        if valid is not None:
            indices = np.where(valid, indices, 0)  # the value under a null is arbitrary
        return _read_only(ids[indices])


def encode_rows(columns: Sequence[pa.Array]) -> tuple[Ints, Bytes]:
    """Return offsets and bytes of rows of several columns: equal rows, equal bytes."""
    n_rows = len(columns[0])
    valids = [validity(column) for column in columns]
    flags = [NO_NULLS if valid is None else valid for valid in valids]
    lengths = np.zeros(n_rows, dtype=np.int64)
    views: list[Any] = []  # words, or (offsets, bytes)
    for column, valid in zip(columns, flags, strict=True):
        if is_word_type(column.type):
            views.append(key_words(column))
            lengths += key_bytes.WORD_BYTES
        else:
            views.append(_bytes_of(column))
            key_bytes.add_lengths(views[-1][0], valid, lengths)
    offsets = np.zeros(n_rows + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    data = np.empty(int(offsets[-1]), dtype=np.uint8)
    cursor = offsets[:-1].copy()
    for view, valid in zip(views, flags, strict=True):
        if isinstance(view, tuple):
            starts, strings = view
            key_bytes.write_strings(starts, strings, valid, cursor, data)
        else:
            key_bytes.write_words(view, valid, cursor, data)
    return _read_only(offsets), _read_only(data)


def decode_rows(offsets: Ints, data: Bytes, types: Sequence[pa.DataType]) -> list[pa.Array]:
    """Return the columns of rows that `encode_rows` encoded."""
    cursor = offsets[:-1].copy()
    columns = []
    for data_type in types:
        valid = np.empty(len(cursor), dtype=np.bool_)
        if is_word_type(data_type):
            words = np.empty(len(cursor), dtype=np.int64)
            key_bytes.read_words(data, cursor, words, valid)
            columns.append(words_to_array(words, _unless_all(valid), data_type))
            continue
        starts = np.empty(len(cursor) + 1, dtype=np.int64)
        key_bytes.read_lengths(data, cursor, starts, valid)
        strings = np.empty(int(starts[-1]), dtype=np.uint8)
        key_bytes.read_strings(data, cursor, starts, strings)
        columns.append(_from_bytes(starts, strings, _unless_all(valid), data_type))
    return columns


def _same_memory(left: pa.Array, right: pa.Array) -> bool:
    """Whether two live arrays are views of the same memory."""
    if len(left) != len(right) or left.offset != right.offset:
        return False
    addresses = [[b and b.address for b in array.buffers()] for array in (left, right)]
    return addresses[0] == addresses[1]


def _plain(column: pa.Array) -> pa.Array:
    return stored(column.dictionary_decode() if pa.types.is_dictionary(column.type) else column)


def _bytes_of(column: pa.Array) -> tuple[npt.NDArray[Any], Bytes]:
    """Return offsets and bytes of a column, also for values of fixed width."""
    if is_binary_type(column.type):
        return binary_views(column)
    if is_word_type(column.type):
        records = key_words(column)
        width = 8
    elif pa.types.is_string_view(column.type) or pa.types.is_binary_view(column.type):
        is_text = pa.types.is_string_view(column.type)
        return binary_views(column.cast(pa.large_string() if is_text else pa.large_binary()))
    else:
        records = fixed_values(column)
        width = column.type.byte_width
    offsets = np.arange(len(column) + 1, dtype=np.int64) * width
    return _read_only(offsets), _read_only(records.reshape(-1).view(np.uint8))


def _from_bytes(
    offsets: Ints, data: Bytes, valid: Bools | None, data_type: pa.DataType
) -> pa.Array:
    """Return the array whose `_bytes_of` are given; null where not ``valid``."""
    if is_word_type(data_type):
        words = _filled_records(offsets, data, valid, 8).view(np.int64)
        return words_to_array(words, valid, data_type)
    bitmap = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
    if is_binary_type(data_type):
        is_large = data_type in (pa.large_string(), pa.large_binary())
        starts = offsets if is_large else offsets.astype(np.int32)
        buffers = [bitmap, pa.py_buffer(starts), pa.py_buffer(data)]
        return pa.Array.from_buffers(data_type, len(offsets) - 1, buffers)
    if pa.types.is_string_view(data_type) or pa.types.is_binary_view(data_type):
        is_text = pa.types.is_string_view(data_type)
        large = pa.large_string() if is_text else pa.large_binary()
        return _from_bytes(offsets, data, valid, large).cast(data_type)
    records = _filled_records(offsets, data, valid, data_type.byte_width)
    return pa.Array.from_buffers(data_type, len(offsets) - 1, [bitmap, pa.py_buffer(records)])


def _filled_records(offsets: Ints, data: Bytes, valid: Bools | None, width: int) -> Bytes:
    """Return records of fixed width; zeros for a null, which has no bytes."""
    n_rows = len(offsets) - 1
    if len(data) == n_rows * width:
        return data
    records = np.zeros((n_rows, width), dtype=np.uint8)
    present = np.diff(offsets) == width
    records[present] = data.reshape(-1, width)
    return records.reshape(-1)


def _unless_all(valid: Bools) -> Bools | None:
    return None if valid.all() else valid


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    array = array.view()
    array.setflags(write=False)
    return array
