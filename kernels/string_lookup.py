"""Finds byte strings in a table that is filled once: by two words, compared without a loop.

A small part of a string usually distinguishes it from all others of a table: the hash uses
eight bytes at one position and eight at another, chosen when the table is filled. The
candidate is compared in five words, read at 0, 8, 16, 24 and the last eight bytes; positions
after the last eight bytes are clamped to these, so that the code does not depend on the
length. Only strings longer than 40 bytes also need a loop.

A *record* of 8 words describes a string of the table::

    words at 0, 8, 16, 24, the last one | length | offset of its bytes | 0

Strings of less than 8 bytes have one word, padded with zeros, in all five positions. For
hashing by selected positions, compare "partial-key hashing" (Hentschel, Sirin and Idreos
2022, "Entropy-Learned Hashing"); here a bad choice costs only time.
"""

import numpy as np

from hpcstream.kernels.compiling import lean_njit
from hpcstream.kernels.hashing import hash_bytes, load_tail, load_word
from hpcstream.kernels.prefetch import prefetch

NO_MATCH = -1
"""The code of a string that is not in the table."""

RECORD_WORDS = 8
WHOLE = -1
"""As the first of two positions: hash all bytes instead."""

_UNDECIDED = -2
_WORD = 8
_LENGTH, _BEGIN = 5, 6  # in a record, after its five words
_COMPARED = 40  # bytes that five words cover
_LOOPED_FROM = 32
_AHEAD = 32  # strings between the one that is asked for and the one that is compared
_MIX_1 = np.uint64(0x9E3779B97F4A7C15)
_MIX_2 = np.uint64(0xC2B2AE3D27D4EB4F)


@lean_njit(inline="always")
def _clamped(data, start, n_bytes, position):
    """Return the word at a position of a string of at least 8 bytes; the last if that is before."""
    return load_word(data, start + min(position, n_bytes - _WORD))


@lean_njit(inline="always")
def _mixed(first, second):
    mixed = first + second * _MIX_1
    return (mixed ^ (mixed >> np.uint64(32))) * _MIX_2


@lean_njit()
def _shift(slots):
    """Return the shift that reduces a hash to the bits of a slot number."""
    return np.uint64(64) - np.uint64(np.log2(slots.shape[0]))


@lean_njit(inline="always")
def _same_five(data, start, n_bytes, records, code):
    at = np.uint64(code) * np.uint64(RECORD_WORDS)
    last = n_bytes - _WORD
    unlike = np.uint64(n_bytes) ^ records[at + np.uint64(_LENGTH)]
    unlike |= load_word(data, start) ^ records[at]
    unlike |= load_word(data, start + min(np.int64(8), last)) ^ records[at + np.uint64(1)]
    unlike |= load_word(data, start + min(np.int64(16), last)) ^ records[at + np.uint64(2)]
    unlike |= load_word(data, start + min(np.int64(24), last)) ^ records[at + np.uint64(3)]
    unlike |= load_word(data, start + last) ^ records[at + np.uint64(4)]
    return unlike == 0


@lean_njit()
def _word_at(data, start, n_bytes, position):
    if n_bytes < _WORD:
        return load_tail(data, start, n_bytes)
    return _clamped(data, start, n_bytes, position)


@lean_njit()
def _first_slot(data, start, n_bytes, positions, shift):
    if positions[0] == WHOLE:
        return hash_bytes(data, start, start + n_bytes) >> shift
    first, second = positions
    first_word = _word_at(data, start, n_bytes, first)
    return _mixed(first_word, _word_at(data, start, n_bytes, second)) >> shift


@lean_njit()
def _same_string(data, start, n_bytes, records, code, table_data):
    if n_bytes < _WORD:
        at = RECORD_WORDS * np.int64(code)
        is_long = np.uint64(n_bytes) == records[at + _LENGTH]
        return is_long and load_tail(data, start, n_bytes) == records[at]
    if not _same_five(data, start, n_bytes, records, code):
        return False
    begin = np.int64(records[RECORD_WORDS * np.int64(code) + _BEGIN])
    unlike = np.uint64(0)
    for done in range(_LOOPED_FROM, n_bytes - _WORD, _WORD):
        unlike |= load_word(data, start + done) ^ load_word(table_data, begin + done)
    return unlike == 0


@lean_njit()
def words_at(offsets, data, position, out_words):
    """Read one word of each string, to choose positions.

    Parameters
    ----------
    offsets : int32[n_rows + 1] or int64[n_rows + 1]
        Row ``i`` is ``data[offsets[i]:offsets[i + 1]]``.
    data : uint8[n_bytes]
    position : int64
    out_words : uint64[n_rows]
    """
    for row in range(out_words.shape[0]):
        start = np.int64(offsets[row])
        out_words[row] = _word_at(data, start, np.int64(offsets[row + 1]) - start, position)


@lean_njit()
def enter(offsets, data, positions, most_steps, records, slots, out_codes, out_first_rows):
    """Assign a code to each distinct string, 0, 1, ... in the order of first rows.

    Parameters
    ----------
    offsets : int32[n_rows + 1] or int64[n_rows + 1]
    data : uint8[n_bytes]
    positions : (int64, int64)
        Of the words that say where to look; `WHOLE`, 0 for all bytes.
    most_steps : int64
        How often a slot other than a string's first one may be looked at.
    records : uint64[8 * n_rows]
    slots : int32[power of two, more than n_rows, at least 2]
        All -1 before; the index afterwards.
    out_codes : int32[n_rows]
    out_first_rows : int64[n_rows]
        Entry ``c`` is the first row with code ``c``.

    Returns
    -------
    int64
        Number of codes; -1 after too many steps: these positions do not tell the strings apart.
    """
    shift = _shift(slots)
    mask = np.uint64(slots.shape[0] - 1)
    n_codes, n_steps = np.int64(0), np.int64(0)
    for row in range(out_codes.shape[0]):
        start = np.int64(offsets[row])
        n_bytes = np.int64(offsets[row + 1]) - start
        slot = _first_slot(data, start, n_bytes, positions, shift)
        while slots[slot] >= 0 and not _same_string(
            data, start, n_bytes, records, slots[slot], data
        ):
            slot = (slot + np.uint64(1)) & mask
            n_steps += 1
        if n_steps > most_steps:
            return np.int64(-1)
        if slots[slot] < 0:
            slots[slot] = n_codes
            out_first_rows[n_codes] = row
            at = RECORD_WORDS * n_codes
            for word in range(5):
                position = np.int64(8 * word) if word < 4 else n_bytes
                records[at + word] = _word_at(data, start, n_bytes, position)
            records[at + _LENGTH] = np.uint64(n_bytes)
            records[at + _BEGIN] = np.uint64(start)
            n_codes += 1
        out_codes[row] = slots[slot]
    return n_codes


@lean_njit()
def _find_plain(offsets, data, rows, records, positions, slots, out_codes):
    """Find strings of 8 to 40 bytes; mark others `_UNDECIDED`, and return their number.

    The loop has no other code, not even in a branch, which would make it five times slower.
    """
    mask = np.uint64(slots.shape[0] - 1)
    shift = _shift(slots)
    first, second = positions
    n_undecided = np.int64(0)
    n_rows = out_codes.shape[0]
    for done in range(n_rows):
        row = np.uint64(rows[done]) if rows.shape[0] > 0 else np.uint64(done)
        if rows.shape[0] > 0:
            coming = np.int64(offsets[rows[min(done + _AHEAD, n_rows - 1)]])
            prefetch(data, coming)
            prefetch(data, coming + _COMPARED - 1)
        start = np.int64(offsets[row])
        n_bytes = np.int64(offsets[row + np.uint64(1)]) - start
        code = np.int32(_UNDECIDED)
        if _WORD <= n_bytes <= _COMPARED:
            first_word = _clamped(data, start, n_bytes, first)
            slot = _mixed(first_word, _clamped(data, start, n_bytes, second)) >> shift
            code = slots[slot]
            while code >= 0 and not _same_five(data, start, n_bytes, records, code):
                slot = (slot + np.uint64(1)) & mask
                code = slots[slot]
        else:
            n_undecided += 1
        out_codes[done] = code
    return n_undecided


@lean_njit()
def _find_short(offsets, data, rows, records, positions, slots, out_codes):
    """Find undecided strings that are shorter than a word; return the number that remains.

    Strings at the end of the data, where no whole word can be read, remain as well.
    """
    mask = np.uint64(slots.shape[0] - 1)
    shift = _shift(slots)
    last_word = np.int64(data.shape[0]) - _WORD
    n_undecided = np.int64(0)
    for done in range(out_codes.shape[0]):
        row = np.uint64(rows[done]) if rows.shape[0] > 0 else np.uint64(done)
        start = np.int64(offsets[row])
        n_bytes = np.int64(offsets[row + np.uint64(1)]) - start
        if out_codes[done] != _UNDECIDED:
            continue
        if n_bytes >= _WORD or start > last_word:
            n_undecided += 1
            continue
        unused = np.uint64(32 - 4 * n_bytes)  # twice: shifting by 64 is not defined
        word = ((load_word(data, start) << unused) << unused) >> unused >> unused
        slot = _mixed(word, word) >> shift
        code = slots[slot]
        while code >= 0:
            at = np.uint64(code) * np.uint64(RECORD_WORDS)
            unlike = np.uint64(n_bytes) ^ records[at + np.uint64(_LENGTH)]
            if (unlike | (word ^ records[at])) == 0:
                break
            slot = (slot + np.uint64(1)) & mask
            code = slots[slot]
        out_codes[done] = code
    return n_undecided


@lean_njit()
def find(offsets, data, rows, table_data, records, positions, slots, out_codes):
    """Find the code of strings, or -1.

    Parameters
    ----------
    offsets : int32[n_rows + 1] or int64[n_rows + 1]
        Row ``i`` is ``data[offsets[i]:offsets[i + 1]]``.
    data : uint8[n_bytes]
    rows : int32[n] or int32[0]
        Which rows; empty for all.
    table_data : uint8[n_table_bytes]
        What `enter` was given as ``data``.
    records, positions, slots
        As `enter` was given, and left, them.
    out_codes : int32[n]
    """
    if positions[0] == WHOLE:
        out_codes[:] = _UNDECIDED
    elif (
        _find_plain(offsets, data, rows, records, positions, slots, out_codes) == 0
        or _find_short(offsets, data, rows, records, positions, slots, out_codes) == 0
    ):
        return
    mask = np.uint64(slots.shape[0] - 1)
    shift = _shift(slots)
    for done in range(out_codes.shape[0]):
        if out_codes[done] != _UNDECIDED:
            continue
        row = np.int64(rows[done]) if rows.shape[0] > 0 else done
        start = np.int64(offsets[row])
        n_bytes = np.int64(offsets[row + 1]) - start
        slot = _first_slot(data, start, n_bytes, positions, shift)
        code = slots[slot]
        while code >= 0 and not _same_string(data, start, n_bytes, records, code, table_data):
            slot = (slot + np.uint64(1)) & mask
            code = slots[slot]
        out_codes[done] = code


def _read_only(dtype, n_items):
    array = np.zeros(n_items, dtype=dtype)
    array.setflags(write=False)
    return array


def warm_up():
    """Compile every kernel for the arguments the engine passes."""
    data, records = _read_only(np.uint8, 8), np.zeros(RECORD_WORDS, dtype=np.uint64)
    slots, codes = np.full(2, NO_MATCH, dtype=np.int32), np.zeros(1, dtype=np.int32)
    positions = (0, 0)
    for dtype in (np.int32, np.int64):
        offsets = _read_only(dtype, 2)
        words_at(offsets, data, 0, np.zeros(1, dtype=np.uint64))
        slots[:] = NO_MATCH
        enter(offsets, data, positions, 1, records, slots, codes, np.zeros(1, dtype=np.int64))
        find(offsets, data, np.zeros(0, np.int32), data, records, positions, slots, codes)
