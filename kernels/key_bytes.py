"""Keys that are strings of bytes: interning them, and rows of several columns as bytes.

An interned key has a small number, its *id*: the 64-bit hash finds the place in
the table, the bytes decide. The bytes of key ``i`` are
``data[offsets[i]:offsets[i + 1]]``.

A row of several columns becomes bytes column by column: a flag (1 if there is a
value), then 8 bytes of a word, or 4 bytes of length and the bytes. A null word is
0 and a null string has length 0, so equal keys have equal bytes.
"""

import sys
from collections.abc import Callable

import numpy as np
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

# Fields of ``book``.
N_IDS = 0
NEED = 1  # why a call stopped early
N_FIELDS = 2

NEED_NOTHING = 0
NEED_IDS = 1
NEED_BYTES = 2
NEED_TABLE = 3

FLAG_BYTES = 1
WORD_BYTES = 9
LENGTH_BYTES = 5

_BIG_ENDIAN = sys.byteorder == "big"


def _load_word_interpreted(data, start):
    return np.uint64(int.from_bytes(data[start : start + 8].tobytes(), "little"))


@intrinsic
def _load_word_compiled(_typing_context, data, start):
    """Return ``data[start:start + 8]`` as a little-endian uint64: one unaligned load."""

    def generate(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        address = cgutils.pointer_add(builder, array.data, arguments[1])
        word_address = builder.bitcast(address, context.get_value_type(types.uint64).as_pointer())
        loaded = builder.load(word_address, align=1)
        return builder.bswap(loaded) if _BIG_ENDIAN else loaded

    return types.uint64(data, types.int64), generate


# An intrinsic exists only in compiled code; with NUMBA_DISABLE_JIT=1 there is none.
_load_word: Callable[..., np.uint64] = (
    _load_word_interpreted
    if config.DISABLE_JIT  # type: ignore[attr-defined]  # set when numba reads its environment
    else _load_word_compiled
)


@njit(cache=True, nogil=True)
def _first_place(hashed, table_size):
    """Return where to look first. Ranks own ranges of the upper hash bits: mix them away."""
    mixed = hashed * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((mixed >> np.uint64(30)) & np.uint64(table_size - 1))


@njit(cache=True, nogil=True)
def _same_bytes(left, left_at, right, right_at, n_bytes):
    done = np.int64(0)
    while done + 8 <= n_bytes:
        if _load_word(left, left_at + done) != _load_word(right, right_at + done):
            return False
        done += 8
    while done < n_bytes:
        if left[left_at + done] != right[right_at + done]:
            return False
        done += 1
    return True


@njit(cache=True, nogil=True)
def intern(book, table, hashes, offsets, data, in_offsets, in_data, words):
    """Find or make the id of each key.

    Parameters
    ----------
    book : int64[N_FIELDS]
    table : uint32[power of two]
        Id plus one, open addressing, at most half full.
    hashes : uint64[capacity]
        Hash of each id.
    offsets : int64[capacity + 1]
    data : uint8[capacity]
    in_offsets : int32[n + 1] or int64[n + 1]
        Key ``i`` is ``in_data[in_offsets[i]:in_offsets[i + 1]]``.
    in_data : uint8[n_bytes]
    words : uint64[n]
        In: the hash of each key. Out: its id.

    Returns
    -------
    int64
        Number of keys done. Less than n: ``book[NEED]`` says what is missing;
        call again with the rest.
    """
    book[NEED] = NEED_NOTHING
    for row in range(words.shape[0]):
        start = np.int64(in_offsets[row])
        n_bytes = np.int64(in_offsets[row + 1]) - start
        hashed = words[row]
        place = _first_place(hashed, table.shape[0])
        while True:
            found = np.int64(table[place]) - 1
            if found < 0:
                found = _add(book, table, hashes, offsets, data, hashed, n_bytes)
                if found < 0:
                    return row
                first = offsets[found]
                for position in range(n_bytes):
                    data[first + position] = in_data[start + position]
                table[place] = np.uint32(found + 1)
                break
            first = offsets[found]
            if (
                hashes[found] == hashed
                and offsets[found + 1] - first == n_bytes
                and _same_bytes(data, first, in_data, start, n_bytes)
            ):
                break
            place = (place + 1) & (table.shape[0] - 1)
        words[row] = np.uint64(found)
    return words.shape[0]


@njit(cache=True, nogil=True)
def _add(book, table, hashes, offsets, data, hashed, n_bytes):
    """Return the next id, its hash and length noted; -1 for want of room."""
    new = book[N_IDS]
    if new == hashes.shape[0]:
        book[NEED] = NEED_IDS
        return np.int64(-1)
    if offsets[new] + n_bytes > data.shape[0]:
        book[NEED] = NEED_BYTES
        return np.int64(-1)
    if 2 * (new + 1) > table.shape[0]:
        book[NEED] = NEED_TABLE
        return np.int64(-1)
    hashes[new] = hashed
    offsets[new + 1] = offsets[new] + n_bytes
    book[N_IDS] = new + 1
    return new


@njit(cache=True, nogil=True)
def fill_table(table, hashes, n_ids):
    """Put ids 0 to ``n_ids`` - 1, which are distinct keys, into an empty table."""
    for found in range(n_ids):
        place = _first_place(hashes[found], table.shape[0])
        while table[place] != 0:
            place = (place + 1) & (table.shape[0] - 1)
        table[place] = np.uint32(found + 1)


@njit(cache=True, nogil=True)
def gather_bytes(offsets, data, ids, out_offsets, out_data):
    """Copy the bytes of keys, one after the other.

    Parameters
    ----------
    offsets : int64[capacity + 1]
    data : uint8[n_bytes]
    ids : int64[n]
    out_offsets : int64[n + 1]
        Given; from `measure_bytes`.
    out_data : uint8[out_offsets[n]]
    """
    for row in range(ids.shape[0]):
        start = offsets[ids[row]]
        first = out_offsets[row]
        for position in range(out_offsets[row + 1] - first):
            out_data[first + position] = data[start + position]


@njit(cache=True, nogil=True)
def measure_bytes(offsets, ids, out_offsets):
    """Write where the bytes of each key go: int64[n + 1]."""
    out_offsets[0] = 0
    for row in range(ids.shape[0]):
        n_bytes = offsets[ids[row] + 1] - offsets[ids[row]]
        out_offsets[row + 1] = out_offsets[row] + n_bytes


@njit(cache=True, nogil=True)
def add_lengths(in_offsets, valid, out_lengths):
    """Add what a string column takes in each encoded row (int64[n])."""
    for row in range(out_lengths.shape[0]):
        is_null = valid.shape[0] > 0 and not valid[row]
        n_bytes = np.int64(in_offsets[row + 1]) - np.int64(in_offsets[row])
        out_lengths[row] += LENGTH_BYTES + (0 if is_null else n_bytes)


@njit(cache=True, nogil=True)
def write_words(words, valid, cursor, out_data):
    """Write a column of words into encoded rows, moving ``cursor`` (int64[n]) on."""
    for row in range(words.shape[0]):
        at = cursor[row]
        is_null = valid.shape[0] > 0 and not valid[row]
        word = np.uint64(0) if is_null else np.uint64(words[row])
        out_data[at] = 0 if is_null else 1
        for position in range(8):
            shifted = word >> np.uint64(8 * position)
            out_data[at + 1 + position] = np.uint8(shifted & np.uint64(255))
        cursor[row] = at + WORD_BYTES


@njit(cache=True, nogil=True)
def write_strings(in_offsets, in_data, valid, cursor, out_data):
    """Write a column of strings into encoded rows, moving ``cursor`` (int64[n]) on."""
    for row in range(cursor.shape[0]):
        at = cursor[row]
        is_null = valid.shape[0] > 0 and not valid[row]
        start = np.int64(in_offsets[row])
        n_bytes = np.int64(0) if is_null else np.int64(in_offsets[row + 1]) - start
        out_data[at] = 0 if is_null else 1
        for position in range(4):
            out_data[at + 1 + position] = np.uint8((n_bytes >> (8 * position)) & 255)
        at += LENGTH_BYTES
        for position in range(n_bytes):
            out_data[at + position] = in_data[start + position]
        cursor[row] = at + n_bytes


@njit(cache=True, nogil=True)
def read_words(data, cursor, out_words, out_valid):
    """Read a column of words (int64[n]) out of encoded rows, moving ``cursor`` on."""
    for row in range(cursor.shape[0]):
        at = cursor[row]
        word = np.uint64(0)
        for position in range(8):
            word |= np.uint64(data[at + 1 + position]) << np.uint64(8 * position)
        out_valid[row] = data[at] != 0
        out_words[row] = np.int64(word)
        cursor[row] = at + WORD_BYTES


@njit(cache=True, nogil=True)
def read_lengths(data, cursor, out_offsets, out_valid):
    """Write the offsets (int64[n + 1]) of a string column of encoded rows.

    ``cursor`` moves to the bytes of the string; `read_strings` must follow.
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


@njit(cache=True, nogil=True)
def read_strings(data, cursor, offsets, out_data):
    """Copy the strings that `read_lengths` measured, moving ``cursor`` on."""
    for row in range(cursor.shape[0]):
        at = cursor[row]
        first = offsets[row]
        n_bytes = offsets[row + 1] - first
        for position in range(n_bytes):
            out_data[first + position] = data[at + position]
        cursor[row] = at + n_bytes


def _read_only(n_items, dtype):
    array = np.zeros(n_items, dtype=dtype)
    array.setflags(write=False)
    return array


def warm_up():
    """Compile every kernel for the arguments the engine passes."""
    book, table = np.zeros(N_FIELDS, np.int64), np.zeros(4, np.uint32)
    hashes, offsets, data = np.zeros(1, np.uint64), np.zeros(2, np.int64), np.zeros(0, np.uint8)
    words, valid, flags = np.zeros(0, np.uint64), _read_only(0, np.bool_), np.zeros(0, np.bool_)
    cursor, in_data = np.zeros(0, np.int64), _read_only(0, np.uint8)
    for dtype in (np.int32, np.int64):
        in_offsets = _read_only(1, dtype)
        intern(book, table, hashes, offsets, data, in_offsets, in_data, words)
        add_lengths(in_offsets, valid, cursor)
        write_strings(in_offsets, in_data, valid, cursor, data)
    fill_table(table, hashes, 0)
    measure_bytes(offsets, cursor, offsets)
    gather_bytes(offsets, data, cursor, offsets, data)
    write_words(_read_only(0, np.int64), valid, cursor, data)
    read_words(data, cursor, cursor, flags)
    read_lengths(data, cursor, offsets, flags)
    read_strings(data, cursor, offsets, data)
