"""Looking up rows in a direct table: the counterparts of the passes in `key_resolve`.

The place of a key is its distance from the least one, so what the index holds
there is right or empty: there is nothing to compare and nothing to search. If the
slices are dense, that place is the slot.
"""

import numpy as np

from hpcstream.kernels.compiling import lean_njit
from hpcstream.kernels.key_table import (
    CHUNK_FIELDS,
    CHUNKS_AT,
    REGION_FIELDS,
    REGIONS_AT,
    ROOM,
    SPAN_AT,
    SPAN_BASE,
    SPAN_FIELDS,
    SPAN_LOW,
    SPAN_REGION,
    SPAN_WIDTH,
    take_slot,
)


@lean_njit()
def place_in_two(book, times, words, boundary, out_places):
    """Write the place of each key in the arena, for two slices at most; 0 if it has none there.

    The arena is the index, or that of the slots if the slices are dense: the span
    of the batch says where each slice begins, and for how many keys.
    """
    first, following = SPAN_AT, SPAN_AT + SPAN_FIELDS
    low, next_low = book[first + SPAN_LOW], book[following + SPAN_LOW]
    base, next_base = np.uint64(book[first + SPAN_BASE]), np.uint64(book[following + SPAN_BASE])
    width = np.uint64(book[first + SPAN_WIDTH])
    next_width = np.uint64(book[following + SPAN_WIDTH])
    for row in range(words.shape[0]):
        is_next = times[row] >= boundary
        place = np.uint64(words[row] - (next_low if is_next else low))
        is_there = place < (next_width if is_next else width)
        place += next_base if is_next else base
        out_places[row] = np.uint32(place) if is_there else np.uint32(0)


@lean_njit()
def place_in_many(book, words, relative, out_places):
    """Do the same for many slices; ``relative`` is where the slice of each row is in the span."""
    for row in range(words.shape[0]):
        at = relative[row] + np.uint64(SPAN_AT)
        place = np.uint64(words[row] - book[at + np.uint64(SPAN_LOW)])
        is_there = place < np.uint64(book[at + np.uint64(SPAN_WIDTH)])
        place += np.uint64(book[at + np.uint64(SPAN_BASE)])
        out_places[row] = np.uint32(place) if is_there else np.uint32(0)


@lean_njit()
def look_up(index, out_slots):
    """Replace each place in the index by what it holds."""
    for row in range(out_slots.shape[0]):
        out_slots[row] = index[out_slots[row]]


@lean_njit()
def count_direct(rows, counts, slots):
    """Count rows up to the first without an entry; return how many."""
    for row in range(slots.shape[0]):
        slot = slots[row]
        if slot == 0:
            return row
        rows[slot] += counts[row] if counts.shape[0] > 0 else 1
    return slots.shape[0]


@lean_njit()
def count_dense(rows, counts, slots, out_first):
    """Count rows up to the first without a slot; return how many.

    Writes which ones are the first in their slots into ``out_first`` (uint64[n]).

    Returns
    -------
    done, n_first : int64
    """
    n_first = np.int64(0)
    for row in range(slots.shape[0]):
        slot = slots[row]
        if slot == 0:
            return row, n_first
        before = rows[slot]
        out_first[n_first] = np.uint64(row)
        n_first += before == 0
        rows[slot] = before + (counts[row] if counts.shape[0] > 0 else 1)
    return slots.shape[0], n_first


@lean_njit()
def direct_slot(book, index, keys, at, key):
    """Return the slot of a key, adding it; 0 if that takes more than a step.

    ``at`` is the place in the span of a slice whose region is known.
    """
    place = np.uint64(key - book[at + SPAN_LOW])
    if place >= np.uint64(book[at + SPAN_WIDTH]):
        return np.int64(0)
    place += np.uint64(book[at + SPAN_BASE])
    slot = np.int64(index[place])
    fields = REGIONS_AT + book[at + SPAN_REGION] * REGION_FIELDS
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
    place_in_two(book, words, words, 0, slots)
    place_in_many(book, words, np.zeros(0, dtype=np.uint64), slots)
    look_up(index, slots)
    count_direct(keys, words, slots)
    count_dense(keys, words, slots, np.zeros(0, dtype=np.uint64))
    direct_slot(book, index, keys, SPAN_AT, 0)
