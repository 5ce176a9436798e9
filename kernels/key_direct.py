"""Looking up rows in a direct table: the counterparts of the passes in `key_resolve`.

The place of a key is its distance from the least one, so what the index holds
there is right or empty: there is nothing to compare and nothing to search.
"""

import numpy as np
from numba import njit

from hpcstream.kernels.key_table import (
    CHUNK_FIELDS,
    CHUNKS_AT,
    DIRECT_LOW,
    REGION_FIELDS,
    REGIONS_AT,
    ROOM,
    SPAN_AT,
    take_slot,
)


@njit(cache=True, nogil=True)
def guess_direct_in_two(book, index, times, words, boundary, out_slots):
    """Write what the index holds for each key, for two slices at most; 0 beyond their widths."""
    low = book[DIRECT_LOW]
    base, next_base = np.uint64(book[SPAN_AT]), np.uint64(book[SPAN_AT + 3])
    width, next_width = np.uint64(book[SPAN_AT + 1]), np.uint64(book[SPAN_AT + 4])
    for row in range(words.shape[0]):
        is_next = times[row] >= boundary
        place = np.uint64(words[row] - low)
        is_there = place < (next_width if is_next else width)
        place += next_base if is_next else base
        out_slots[row] = np.uint32(place) if is_there else np.uint32(0)
    for row in range(words.shape[0]):
        out_slots[row] = index[out_slots[row]]


@njit(cache=True, nogil=True)
def guess_direct(book, index, words, relative, out_slots):
    """Write what the index holds for each key; ``relative`` is three times the relative slice."""
    low = book[DIRECT_LOW]
    for row in range(words.shape[0]):
        at = relative[row] + np.uint64(SPAN_AT)
        place = np.uint64(words[row] - low)
        is_there = place < np.uint64(book[at + np.uint64(1)])
        place += np.uint64(book[at])
        out_slots[row] = np.uint32(place) if is_there else np.uint32(0)
    for row in range(words.shape[0]):
        out_slots[row] = index[out_slots[row]]


@njit(cache=True, nogil=True)
def count_direct(rows, step, slots):
    """Count rows up to the first without an entry; return how many."""
    for row in range(slots.shape[0]):
        slot = slots[row]
        if slot == 0:
            return row
        rows[slot] += step
    return slots.shape[0]


@njit(cache=True, nogil=True)
def direct_slot(book, index, keys, at, key):
    """Return the slot of a key, adding it; 0 if that takes more than a step.

    ``at`` is the place in the span of a slice whose region is known.
    """
    place = np.uint64(key - book[DIRECT_LOW])
    if place >= np.uint64(book[at + 1]):
        return np.int64(0)
    place += np.uint64(book[at])
    slot = np.int64(index[place])
    fields = REGIONS_AT + book[at + 2] * REGION_FIELDS
    if slot == 0 and book[fields + ROOM] > 0:
        slot = take_slot(book, fields)
        keys[slot] = key
        index[place] = np.uint32(slot)
    return slot


def warm_up():
    """Compile every kernel for the arguments the engine passes."""
    book = np.zeros(REGIONS_AT + 2 * REGION_FIELDS + 8 * CHUNK_FIELDS + 4, dtype=np.int64)
    book[CHUNKS_AT] = REGIONS_AT + 2 * REGION_FIELDS
    keys = np.zeros(1, dtype=np.int64)
    index, slots = np.zeros(8, dtype=np.uint32), np.zeros(0, dtype=np.uint32)
    words = np.zeros(0, dtype=np.int64)
    words.setflags(write=False)
    guess_direct_in_two(book, index, words, words, 0, slots)
    guess_direct(book, index, words, np.zeros(0, dtype=np.uint64), slots)
    count_direct(keys, 1, slots)
    direct_slot(book, index, keys, SPAN_AT, 0)
