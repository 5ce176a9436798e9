"""Encodes rows of several columns as byte strings, and gathers such keys.

The bytes of key ``i`` are ``data[offsets[i]:offsets[i + 1]]``.

A row is encoded column by column: a flag (1 if there is a value), then the 8 bytes of a
word, or a length of 4 bytes and the bytes of a string. A null word is 0 and a null string
has length 0, so equal keys have equal bytes.
"""

import numpy as np

from hpcstream.kernels.compiling import lean_njit
from hpcstream.kernels.copying import copy_items

FLAG_BYTES = 1
WORD_BYTES = 9
LENGTH_BYTES = 5


@lean_njit()
def gather_bytes(offsets, data, ids, out_offsets, out_data):
    """Copy the bytes of keys, one after the other.

    Parameters
    ----------
    offsets : int64[capacity + 1]
    data : uint8[n_bytes]
    ids : int64[n]
    out_offsets : int64[n + 1]
        Input: the result of `measure_bytes`.
    out_data : uint8[out_offsets[n]]
    """
    for row in range(ids.shape[0]):
        start = offsets[ids[row]]
        first = out_offsets[row]
        copy_items(data, start, out_offsets[row + 1] - first, out_data, first)


@lean_njit()
def measure_bytes(offsets, ids, out_offsets):
    """Write the offsets of the keys in the output: int64[n + 1]."""
    out_offsets[0] = 0
    for row in range(ids.shape[0]):
        n_bytes = offsets[ids[row] + 1] - offsets[ids[row]]
        out_offsets[row + 1] = out_offsets[row] + n_bytes


@lean_njit()
def add_lengths(in_offsets, valid, out_lengths):
    """Add the encoded size of a string column to the size of each row (int64[n])."""
    for row in range(out_lengths.shape[0]):
        is_null = valid.shape[0] > 0 and not valid[row]
        n_bytes = np.int64(in_offsets[row + 1]) - np.int64(in_offsets[row])
        out_lengths[row] += LENGTH_BYTES + (0 if is_null else n_bytes)


@lean_njit()
def write_words(words, valid, cursor, out_data):
    """Encode a column of words, and advance the ``cursor`` of each row (int64[n])."""
    for row in range(words.shape[0]):
        at = cursor[row]
        is_null = valid.shape[0] > 0 and not valid[row]
        word = np.uint64(0) if is_null else np.uint64(words[row])
        out_data[at] = 0 if is_null else 1
        for position in range(8):
            shifted = word >> np.uint64(8 * position)
            out_data[at + 1 + position] = np.uint8(shifted & np.uint64(255))
        cursor[row] = at + WORD_BYTES


@lean_njit()
def write_strings(in_offsets, in_data, valid, cursor, out_data):
    """Encode a column of strings, and advance the ``cursor`` of each row (int64[n])."""
    for row in range(cursor.shape[0]):
        at = cursor[row]
        is_null = valid.shape[0] > 0 and not valid[row]
        start = np.int64(in_offsets[row])
        n_bytes = np.int64(0) if is_null else np.int64(in_offsets[row + 1]) - start
        out_data[at] = 0 if is_null else 1
        for position in range(4):
            out_data[at + 1 + position] = np.uint8((n_bytes >> (8 * position)) & 255)
        at += LENGTH_BYTES
        copy_items(in_data, start, n_bytes, out_data, at)
        cursor[row] = at + n_bytes


@lean_njit()
def read_words(data, cursor, out_words, out_valid):
    """Decode a column of words (int64[n]), and advance ``cursor``."""
    for row in range(cursor.shape[0]):
        at = cursor[row]
        word = np.uint64(0)
        for position in range(8):
            word |= np.uint64(data[at + 1 + position]) << np.uint64(8 * position)
        out_valid[row] = data[at] != 0
        out_words[row] = np.int64(word)
        cursor[row] = at + WORD_BYTES


@lean_njit()
def read_lengths(data, cursor, out_offsets, out_valid):
    """Decode the offsets (int64[n + 1]) of a string column.

    ``cursor`` advances to the bytes of the string; `read_strings` must follow.
    """
    out_offsets[0] = 0
    for row in range(cursor.shape[0]):
        at = cursor[row]
        n_bytes = np.int64(0)
        for position in range(4):
            n_bytes |= np.int64(data[at + 1 + position]) << (8 * position)
        out_valid[row] = data[at] != 0
        out_offsets[row + 1] = out_offsets[row] + n_bytes
        cursor[row] = at + LENGTH_BYTES


@lean_njit()
def read_strings(data, cursor, offsets, out_data):
    """Decode the strings that `read_lengths` has measured, and advance ``cursor``."""
    for row in range(cursor.shape[0]):
        at = cursor[row]
        first = offsets[row]
        n_bytes = offsets[row + 1] - first
        copy_items(data, at, n_bytes, out_data, first)
        cursor[row] = at + n_bytes


def _read_only(n_items, dtype):
    array = np.zeros(n_items, dtype=dtype)
    array.setflags(write=False)
    return array


def warm_up():
    """Compile every kernel for the arguments the engine passes."""
    offsets, data = np.zeros(2, np.int64), np.zeros(0, np.uint8)
    valid, flags = _read_only(0, np.bool_), np.zeros(0, np.bool_)
    cursor, in_data = np.zeros(0, np.int64), _read_only(0, np.uint8)
    for dtype in (np.int32, np.int64):
        in_offsets = _read_only(1, dtype)
        add_lengths(in_offsets, valid, cursor)
        write_strings(in_offsets, in_data, valid, cursor, data)
    measure_bytes(offsets, cursor, offsets)
    gather_bytes(offsets, data, cursor, offsets, data)
    write_words(_read_only(0, np.int64), valid, cursor, data)
    read_words(data, cursor, cursor, flags)
    read_lengths(data, cursor, offsets, flags)
    read_strings(data, cursor, offsets, data)
