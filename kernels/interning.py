"""Interns byte strings: assigns small numbers to keys.

An interned key has a small number, its *id*. A hash determines its home position in the
table, and keys are compared by their bytes: ``data[offsets[i]:offsets[i + 1]]`` for id ``i``.
"""

import numpy as np

from hpcstream.kernels.compiling import lean_njit
from hpcstream.kernels.copying import copy_items
from hpcstream.kernels.hashing import load_word

# Fields of ``header``.
N_IDS = 0
NEED = 1  # why a call stopped early
HASH_MASK = 2  # bits of the hash that are used: all, except in tests
START = 3  # offset of the key that is looked up separately
N_FIELDS = 4

INLINE_BYTES = 24  # keys up to this length are compared as three words
BLOCK = 256  # keys of a block

NEED_NOTHING = 0
NEED_IDS = 1
NEED_BYTES = 2
NEED_TABLE = 3


@lean_njit(inline="always")
def _head(data, start, n_bytes):
    """Return the first ``n_bytes`` (clipped to 0..8) from ``start`` on: one load, no branch."""
    unused = np.uint64(32 - 4 * min(max(n_bytes, np.int64(0)), np.int64(8)))
    all_bits = np.uint64(0xFFFFFFFFFFFFFFFF)
    return load_word(data, start) & ((all_bits >> unused) >> unused)


@lean_njit()
def _head_at_end(data, start, n_bytes):
    """Return the same as `_head` without reading further bytes."""
    word = np.uint64(0)
    for byte in range(min(n_bytes, np.int64(8))):
        word |= np.uint64(data[start + byte]) << np.uint64(8 * byte)
    return word


@lean_njit()
def _digest(data, start, n_bytes):
    """Return a hash of more than `INLINE_BYTES` bytes."""
    state = np.uint64(n_bytes)
    position = start
    last = start + n_bytes - 8
    while position < last:
        state = (state ^ load_word(data, position)) * np.uint64(0x9E3779B185EBCA87)
        state ^= state >> np.uint64(29)
        position += 8
    state = (state ^ load_word(data, last)) * np.uint64(0xC2B2AE3D27D4EB4F)
    return state ^ (state >> np.uint64(31))


@lean_njit()
def _describe_one(in_data, start, n_bytes, at, out_words):
    """Write the record of one key of any length, at any offset."""
    out_words[at + 3] = np.uint64(n_bytes)
    if n_bytes > INLINE_BYTES:
        out_words[at] = _digest(in_data, start, n_bytes)
        out_words[at + 1] = 0
        out_words[at + 2] = 0
    else:
        out_words[at] = _head_at_end(in_data, start, n_bytes)
        out_words[at + 1] = _head_at_end(in_data, start + 8, n_bytes - 8)
        out_words[at + 2] = _head_at_end(in_data, start + 16, n_bytes - 16)


@lean_njit()
def _describe(in_offsets, in_data, n_rows, out_words):
    """Write the record of each key.

    Keys of one block mostly have similar lengths: the longest determines the loop, and the
    loops do not branch on a length, so that no branch is mispredicted.
    """
    longest = np.int64(0)
    for row in range(n_rows):
        longest = max(longest, np.int64(in_offsets[row + 1]) - np.int64(in_offsets[row]))
    n_loaded = 8 if longest <= 8 else INLINE_BYTES
    n_fast = n_rows if longest <= INLINE_BYTES else 0
    while n_fast > 0 and np.int64(in_offsets[n_fast - 1]) + n_loaded > in_data.shape[0]:
        n_fast -= 1
    if longest <= 8:
        for row in range(n_fast):
            start = np.int64(in_offsets[row])
            n_bytes = np.int64(in_offsets[row + 1]) - start
            out_words[4 * row] = _head(in_data, start, n_bytes)
            out_words[4 * row + 1] = 0
            out_words[4 * row + 2] = 0
            out_words[4 * row + 3] = np.uint64(n_bytes)
    else:
        for row in range(n_fast):
            start = np.int64(in_offsets[row])
            n_bytes = np.int64(in_offsets[row + 1]) - start
            out_words[4 * row] = _head(in_data, start, n_bytes)
            out_words[4 * row + 1] = _head(in_data, start + 8, n_bytes - 8)
            out_words[4 * row + 2] = _head(in_data, start + 16, n_bytes - 16)
            out_words[4 * row + 3] = np.uint64(n_bytes)
    for row in range(n_fast, n_rows):
        start = np.int64(in_offsets[row])
        _describe_one(in_data, start, np.int64(in_offsets[row + 1]) - start, 4 * row, out_words)


@lean_njit(inline="always")
def _first_position(records, at, hash_mask, table_size):
    """Return the home position of the record at ``records[at:at + 4]``.

    The hash is independent of the one that assigns keys to ranks.
    """
    mixed = records[at] * np.uint64(0x9E3779B97F4A7C15)
    word = records[at + 1] * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed += (word << np.uint64(21)) | (word >> np.uint64(43))
    word = records[at + 2] * np.uint64(0x9E3779B185EBCA87)
    mixed += (word << np.uint64(42)) | (word >> np.uint64(22))
    mixed += records[at + 3] * np.uint64(0x85EBCA77C2B2AE63)
    mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xBF58476D1CE4E5B9)
    return np.int64(((mixed & hash_mask) >> np.uint64(30)) & np.uint64(table_size - 1))


@lean_njit()
def _same_bytes(left, left_at, right, right_at, n_bytes):
    """Compare at least 8 bytes; the last word may overlap the previous one."""
    last = n_bytes - 8
    done = np.int64(0)
    while done < last:
        if load_word(left, left_at + done) != load_word(right, right_at + done):
            return False
        done += 8
    return load_word(left, left_at + last) == load_word(right, right_at + last)


@lean_njit(inline="always")
def _same_record(records, found, words, row):
    left, right = 4 * found, 4 * row
    difference = records[left] ^ words[right]
    difference |= records[left + 1] ^ words[right + 1]
    difference |= records[left + 2] ^ words[right + 2]
    difference |= records[left + 3] ^ words[right + 3]
    return difference == 0


@lean_njit()
def intern(header, entries, in_offsets, in_data, scratch, out_ids):
    """Find or make the id of each key.

    Parameters
    ----------
    header : int64[N_FIELDS]
    entries : (table, records, offsets, data)
        Table, uint32[power of two]: id plus one, open addressing, at most a quarter full.
        Records, uint64[4 * capacity]: for each id the key itself, up to 24 bytes as three
        words, and its length; of a longer key a hash, 0, 0 and its length.
        Offsets, int64[capacity + 1], and data, uint8[capacity]: the bytes of each id's key.
    in_offsets : int32[n + 1] or int64[n + 1]
        Key ``i`` is ``in_data[in_offsets[i]:in_offsets[i + 1]]``.
    in_data : uint8[n_bytes]
    scratch : uint64[4 * BLOCK]
    out_ids : int64[n]

    Returns
    -------
    int64
        Number of keys done. If less than n, ``header[NEED]`` is the arena that lacks room;
        call again with the rest.

    Notes
    -----
    Keys are described and looked up at their home positions block by block, so that loads are
    independent.
    """
    table, records, offsets, data = entries
    header[NEED] = NEED_NOTHING
    hash_mask = np.uint64(header[HASH_MASK])
    n_rows = out_ids.shape[0]
    done = np.int64(0)
    while done < n_rows:
        n_block = min(np.int64(BLOCK), n_rows - done)
        block_offsets = in_offsets[done : done + n_block + 1]
        ids = out_ids[done : done + n_block]
        _describe(block_offsets, in_data, n_block, scratch)
        for row in range(n_block):
            ids[row] = table[_first_position(scratch, 4 * row, hash_mask, table.shape[0])]
        for row in range(n_block):
            found = ids[row] - 1
            is_found = found >= 0 and _same_record(records, found, scratch, row)
            n_bytes = np.int64(scratch[4 * row + 3])
            if is_found and n_bytes > INLINE_BYTES:
                start = np.int64(block_offsets[row])
                is_found = _same_bytes(data, offsets[found], in_data, start, n_bytes)
            if not is_found:
                header[START] = block_offsets[row]
                found = _find_or_add(header, entries, scratch, row, in_data)
                if found < 0:
                    return done + row
            ids[row] = found
        done += n_block
    return done


@lean_njit()
def _find_or_add(header, entries, words, row, in_data):
    """Return the id of one key, adding it; -1 if there is no room."""
    table, records, offsets, data = entries
    start = header[START]
    n_bytes = np.int64(words[4 * row + 3])
    position = _first_position(words, 4 * row, np.uint64(header[HASH_MASK]), table.shape[0])
    found = np.int64(table[position]) - 1
    while found >= 0:
        if _same_record(records, found, words, row) and (
            n_bytes <= INLINE_BYTES or _same_bytes(data, offsets[found], in_data, start, n_bytes)
        ):
            return found
        position = (position + 1) & (table.shape[0] - 1)
        found = np.int64(table[position]) - 1
    found = _add(header, table, records, offsets, data, n_bytes)
    if found >= 0:
        copy_items(in_data, start, n_bytes, data, offsets[found])
        for word in range(4):
            records[4 * found + word] = words[4 * row + word]
        table[position] = np.uint32(found + 1)
    return found


@lean_njit()
def _add(header, table, records, offsets, data, n_bytes):
    """Append a key and return its id; -1 if there is no room."""
    new = header[N_IDS]
    if 4 * new == records.shape[0]:
        header[NEED] = NEED_IDS
        return np.int64(-1)
    if offsets[new] + n_bytes > data.shape[0]:
        header[NEED] = NEED_BYTES
        return np.int64(-1)
    if 4 * (new + 1) > table.shape[0]:
        header[NEED] = NEED_TABLE
        return np.int64(-1)
    offsets[new + 1] = offsets[new] + n_bytes
    header[N_IDS] = new + 1
    return new


@lean_njit()
def fill_table(header, table, records):
    """Insert all ids, whose keys are distinct, into an empty table."""
    hash_mask = np.uint64(header[HASH_MASK])
    for found in range(header[N_IDS]):
        position = _first_position(records, 4 * found, hash_mask, table.shape[0])
        while table[position] != 0:
            position = (position + 1) & (table.shape[0] - 1)
        table[position] = np.uint32(found + 1)


def _read_only(n_items, dtype):
    array = np.zeros(n_items, dtype=dtype)
    array.setflags(write=False)
    return array


def warm_up():
    """Compile every kernel for the arguments the engine passes."""
    header, table = np.zeros(N_FIELDS, np.int64), np.zeros(4, np.uint32)
    records, offsets, data = np.zeros(4, np.uint64), np.zeros(2, np.int64), np.zeros(0, np.uint8)
    scratch, ids = np.zeros(4 * BLOCK, np.uint64), np.zeros(0, np.int64)
    for dtype in (np.int32, np.int64):
        in_offsets, in_data = _read_only(1, dtype), _read_only(0, np.uint8)
        intern(header, (table, records, offsets, data), in_offsets, in_data, scratch, ids)
    fill_table(header, table, records)
