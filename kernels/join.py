"""Finding the rows of a small table by key: an open-addressing index of its distinct keys.

Distinct keys get *codes*, 0, 1, ... in the order of their first row. A slot
holds a code or -1; the hash's low bits say where the search begins, and the key
itself decides. Hashes come from `hpcstream.kernels.hashing`. No key is null here:
the caller leaves those rows out, or overwrites their code.
"""

import numpy as np
from numba import njit

from hpcstream.kernels.hashing import hash_bytes, load_word

_WORD = 8
_BLOCK = 512  # rows that are hashed and looked up together

NO_MATCH = -1
"""The code of a key that the table does not have."""


@njit(cache=True, nogil=True)
def index_words(words, hashes, slots, out_codes, out_first_rows):
    """Give each distinct int64 key a code.

    Parameters
    ----------
    words : int64[n_rows]
    hashes : uint64[n_rows]
    slots : int64[power of two, more than n_rows]
        All -1 before; the index afterwards.
    out_codes : int64[n_rows]
    out_first_rows : int64[n_rows]
        Entry ``c`` is the first row with code ``c``.

    Returns
    -------
    int64
        Number of codes.
    """
    mask = np.uint64(slots.shape[0] - 1)
    n_codes = 0
    for row in range(words.shape[0]):
        slot = hashes[row] & mask
        while slots[slot] >= 0 and words[out_first_rows[slots[slot]]] != words[row]:
            slot = (slot + np.uint64(1)) & mask
        if slots[slot] < 0:
            slots[slot] = n_codes
            out_first_rows[n_codes] = row
            n_codes += 1
        out_codes[row] = slots[slot]
    return n_codes


@njit(cache=True, nogil=True)
def find_words(words, hashes, table_words, slots, out_codes):
    """Find the code of each int64 key, or -1.

    Parameters
    ----------
    words : int64[n_rows]
    hashes : uint64[n_rows]
    table_words : int64[n_codes]
        The key of each code.
    slots : int64[power of two]
        As `index_words` left it.
    out_codes : int64[n_rows]
    """
    mask = np.uint64(slots.shape[0] - 1)
    for row in range(words.shape[0]):
        slot = hashes[row] & mask
        code = slots[slot]
        while code >= 0 and table_words[code] != words[row]:
            slot = (slot + np.uint64(1)) & mask
            code = slots[slot]
        out_codes[row] = code


@njit(cache=True, nogil=True)
def _same_bytes(left, left_at, right, right_at, n_bytes):
    if n_bytes < _WORD:
        difference = np.uint8(0)
        for byte in range(n_bytes):
            difference |= left[left_at + byte] ^ right[right_at + byte]
        return difference == 0
    # The last word overlaps the one before, so that there is no tail. Keys with one hash
    # are nearly always the same: a branch for each word would only be in the way.
    last = n_bytes - _WORD
    unlike = load_word(left, left_at + last) ^ load_word(right, right_at + last)
    for done in range(0, last, _WORD):
        unlike |= load_word(left, left_at + done) ^ load_word(right, right_at + done)
    return unlike == 0


@njit(cache=True, nogil=True)
def _same_key(offsets, data, row, table_offsets, table_data, code):
    start = np.int64(offsets[row])
    stop = np.int64(offsets[row + 1])
    table_start = np.int64(table_offsets[code])
    table_stop = np.int64(table_offsets[code + 1])
    if stop - start != table_stop - table_start:
        return False
    return _same_bytes(data, start, table_data, table_start, stop - start)


@njit(cache=True, nogil=True)
def index_binary(offsets, data, hashes, slots, out_codes, out_first_rows):
    """Give each distinct string of bytes a code.

    Parameters
    ----------
    offsets : int32[n_rows + 1] or int64[n_rows + 1]
        Row ``i`` is ``data[offsets[i]:offsets[i + 1]]``.
    data : uint8[n_bytes]
    hashes : uint64[n_rows]
    slots : int64[power of two, more than n_rows]
        All -1 before; the index afterwards.
    out_codes : int64[n_rows]
    out_first_rows : int64[n_rows]
        Entry ``c`` is the first row with code ``c``.

    Returns
    -------
    int64
        Number of codes.
    """
    mask = np.uint64(slots.shape[0] - 1)
    n_codes = 0
    for row in range(hashes.shape[0]):
        slot = hashes[row] & mask
        while slots[slot] >= 0:
            first = out_first_rows[slots[slot]]
            if hashes[first] == hashes[row] and _same_key(offsets, data, row, offsets, data, first):
                break
            slot = (slot + np.uint64(1)) & mask
        if slots[slot] < 0:
            slots[slot] = n_codes
            out_first_rows[n_codes] = row
            n_codes += 1
        out_codes[row] = slots[slot]
    return n_codes


@njit(cache=True, nogil=True)
def find_binary(offsets, data, rows, table_offsets, table_data, table_hashes, slots, out_codes):
    """Find the code of strings of bytes, or -1.

    Some hundred rows at a time are hashed and looked up: what they read is still
    near when the keys are compared.

    Parameters
    ----------
    offsets : int32[n_rows + 1] or int64[n_rows + 1]
        Row ``i`` is ``data[offsets[i]:offsets[i + 1]]``.
    data : uint8[n_bytes]
    rows : int32[n] or int32[0]
        Which rows; empty for all.
    table_offsets : int64[n_codes + 1]
    table_data : uint8[n_table_bytes]
        The key of each code.
    table_hashes : uint64[n_codes]
    slots : int64[power of two]
        As `index_binary` left it.
    out_codes : int64[n]
    """
    mask = np.uint64(slots.shape[0] - 1)
    hashes = np.empty(_BLOCK, dtype=np.uint64)
    n_rows = out_codes.shape[0]
    for first in range(0, n_rows, _BLOCK):
        n_here = min(_BLOCK, n_rows - first)
        for place in range(n_here):  # guesses: loads that need not wait for each other
            row = np.int64(rows[first + place]) if rows.shape[0] > 0 else first + place
            hash_ = hash_bytes(data, np.int64(offsets[row]), np.int64(offsets[row + 1]))
            hashes[place] = hash_
            out_codes[first + place] = slots[hash_ & mask]
        for place in range(n_here):
            row = np.int64(rows[first + place]) if rows.shape[0] > 0 else first + place
            code = out_codes[first + place]
            slot = hashes[place] & mask
            while code >= 0:
                if table_hashes[code] == hashes[place] and _same_key(
                    offsets, data, row, table_offsets, table_data, code
                ):
                    break
                slot = (slot + np.uint64(1)) & mask
                code = slots[slot]
            out_codes[first + place] = code


@njit(cache=True, nogil=True)
def pair_codes(left, right, n_right, out_words):
    """Make one word of the codes of two columns; -1 where either is -1.

    Parameters
    ----------
    left, right : int64[n_rows]
    n_right : int64
        Number of codes of ``right``.
    out_words : int64[n_rows]
    """
    for row in range(left.shape[0]):
        if left[row] < 0 or right[row] < 0:
            out_words[row] = NO_MATCH
        else:
            out_words[row] = left[row] * n_right + right[row]


@njit(cache=True, nogil=True)
def expand_matches(codes, starts, keep_unmatched, cursor, out_rows, out_matches):
    """List the pairs of a row and each of its matches, as many as there is room for.

    Call again until it returns 0.

    Parameters
    ----------
    codes : int64[n_rows]
    starts : int64[n_codes + 1]
        Code ``c`` has the matches ``starts[c]`` to ``starts[c + 1] - 1``.
    keep_unmatched : bool
        Whether a row of code -1 is listed, with match -1.
    cursor : int64[2]
        The row to go on with, and how many of its matches are done; 0, 0 at first.
    out_rows : int64[room]
    out_matches : int64[room]

    Returns
    -------
    int64
        Number of pairs listed.
    """
    room = out_rows.shape[0]
    row, done = cursor[0], cursor[1]
    n_pairs = 0
    while row < codes.shape[0] and n_pairs < room:
        code = codes[row]
        if code < 0:
            if keep_unmatched:
                out_rows[n_pairs] = row
                out_matches[n_pairs] = NO_MATCH
                n_pairs += 1
            row += 1
            continue
        first = starts[code] + done
        n_now = min(starts[code + 1] - first, room - n_pairs)
        for step in range(n_now):
            out_rows[n_pairs + step] = row
            out_matches[n_pairs + step] = first + step
        n_pairs += n_now
        done += n_now
        if starts[code] + done == starts[code + 1]:
            row, done = row + 1, 0
    cursor[0], cursor[1] = row, done
    return n_pairs


def warm_up() -> None:
    """Compile each kernel for the arguments that a join passes."""
    hashes, words, codes, rows = (np.zeros(0, np.uint64), *(np.zeros(0, np.int64),) * 3)
    slots = np.full(2, NO_MATCH, np.int64)
    fixed = _read_only(words)
    data = _read_only(np.zeros(0, np.uint8))
    for keys in (fixed, words):
        index_words(keys, hashes, slots, codes, rows)
        find_words(keys, hashes, words, slots, codes)
    for dtype in (np.int32, np.int64):
        offsets = _read_only(np.zeros(1, dtype))
        index_binary(offsets, data, hashes, slots, codes, rows)
        some = np.zeros(0, np.int32)
        find_binary(offsets, data, some, np.zeros(1, np.int64), data, hashes, slots, codes)
    pair_codes(words, words, 1, words)
    expand_matches(codes, np.zeros(1, np.int64), True, np.zeros(2, np.int64), rows, rows)


def _read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.setflags(write=False)
    return array
