"""Finds the rows of a small table by key, with an open-addressing index of its distinct keys.

Distinct keys have *codes*, 0, 1, ... in the order of their first row. A slot holds a code
or -1; the search begins at the low bits of the hash and compares keys. Hashes come from
`hpcstream.kernels.hashing`; `hpcstream.kernels.string_lookup` finds string keys. No key is
null: the caller excludes such rows, or overwrites their code.
"""

import numpy as np

from hpcstream.kernels.compiling import lean_njit

NO_MATCH = -1
"""The code of a key that is not in the table."""


@lean_njit()
def index_words(words, hashes, slots, out_codes, out_first_rows):
    """Assign a code to each distinct int64 key.

    Parameters
    ----------
    words : int64[n_rows]
    hashes : uint64[n_rows]
    slots : int32[power of two, more than n_rows]
        All -1 before the call; the index afterwards.
    out_codes : int32[n_rows]
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


@lean_njit()
def find_words(words, hashes, table_words, slots, out_codes):
    """Find the code of each int64 key, or -1.

    Parameters
    ----------
    words : int64[n_rows]
    hashes : uint64[n_rows]
    table_words : int64[n_codes]
        The key of each code.
    slots : int32[power of two]
        The index that `index_words` has filled.
    out_codes : int32[n_rows]
    """
    mask = np.uint64(slots.shape[0] - 1)
    for row in range(words.shape[0]):
        slot = hashes[row] & mask
        code = slots[slot]
        while code >= 0 and table_words[code] != words[row]:
            slot = (slot + np.uint64(1)) & mask
            code = slots[slot]
        out_codes[row] = code


@lean_njit()
def pair_codes(left, right, n_right, out_words):
    """Combine the codes of two columns in one word; -1 if either is -1.

    Parameters
    ----------
    left, right : int32[n_rows]
    n_right : int64
        Number of codes of ``right``.
    out_words : int64[n_rows]
    """
    for row in range(left.shape[0]):
        if left[row] < 0 or right[row] < 0:
            out_words[row] = NO_MATCH
        else:
            out_words[row] = np.int64(left[row]) * n_right + right[row]


@lean_njit()
def expand_matches(codes, starts, keep_unmatched, cursor, out_rows, out_matches):
    """Write pairs of a row and one of its matches, at most as many as the output has room for.

    Call it until it returns 0.

    Parameters
    ----------
    codes : int32[n_rows]
    starts : int64[n_codes + 1]
        Code ``c`` has the matches ``starts[c]`` to ``starts[c + 1] - 1``.
    keep_unmatched : bool
        Whether to write rows of code -1, with match -1.
    cursor : int64[2]
        The next row, and the number of its matches that are written; 0, 0 for the first call.
    out_rows : int64[room]
    out_matches : int64[room]

    Returns
    -------
    int64
        Number of pairs.
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
    hashes, words, codes = (np.zeros(0, dtype) for dtype in (np.uint64, np.int64, np.int32))
    slots = np.full(2, NO_MATCH, np.int32)
    fixed = words.copy()
    fixed.setflags(write=False)
    for keys in (fixed, words):
        index_words(keys, hashes, slots, codes, words)
        find_words(keys, hashes, words, slots, codes)
    pair_codes(codes, codes, 1, words)
    expand_matches(codes, np.zeros(1, np.int64), True, np.zeros(2, np.int64), words, words)
