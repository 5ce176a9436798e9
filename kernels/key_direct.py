"""Looks up rows in a direct table: the counterparts of the passes in `key_resolve`.

The position of a key is its distance from the least key, so the index holds its slot or is
empty there: keys are neither compared nor searched. If the slices are dense, the position
is the slot.
"""

import numpy as np

from hpcstream.kernels.compiling import lean_njit
from hpcstream.kernels.key_table import (
    REGION_FIELDS,
    REGIONS_AT,
    ROOM,
    SPAN_AT,
    SPAN_BASE,
    SPAN_FIELDS,
    SPAN_LOW,
    SPAN_REGION,
    SPAN_WIDTH,
    header_of_two,
    take_slot,
)


@lean_njit()
def locate_in_two(header, times, words, boundary, out_positions):
    """Write the position of each key in its arena, for at most two slices; 0 if it has none.

    The arena is the index, or that of the slots if the slices are dense. The span of the
    batch has the base and the width of each slice.
    """
    first, following = SPAN_AT, SPAN_AT + SPAN_FIELDS
    low, next_low = header[first + SPAN_LOW], header[following + SPAN_LOW]
    base, next_base = (
        np.uint64(header[first + SPAN_BASE]),
        np.uint64(header[following + SPAN_BASE]),
    )
    width = np.uint64(header[first + SPAN_WIDTH])
    next_width = np.uint64(header[following + SPAN_WIDTH])
    for row in range(words.shape[0]):
        is_next = times[row] >= boundary
        position = np.uint64(words[row] - (next_low if is_next else low))
        is_there = position < (next_width if is_next else width)
        position += next_base if is_next else base
        out_positions[row] = np.uint32(position) if is_there else np.uint32(0)


@lean_njit()
def locate_in_many(header, words, relative, out_positions):
    """Do the same for many slices; ``relative`` is the slice of each row in the span."""
    for row in range(words.shape[0]):
        at = relative[row] + np.uint64(SPAN_AT)
        position = np.uint64(words[row] - header[at + np.uint64(SPAN_LOW)])
        is_there = position < np.uint64(header[at + np.uint64(SPAN_WIDTH)])
        position += np.uint64(header[at + np.uint64(SPAN_BASE)])
        out_positions[row] = np.uint32(position) if is_there else np.uint32(0)


@lean_njit()
def look_up(index, out_slots):
    """Replace each position in the index by the slot that the index holds there."""
    for row in range(out_slots.shape[0]):
        out_slots[row] = index[out_slots[row]]


@lean_njit()
def count_direct(rows, counts, slots):
    """Count rows up to the first without an entry; return their number."""
    for row in range(slots.shape[0]):
        slot = slots[row]
        if slot == 0:
            return row
        rows[slot] += counts[row] if counts.shape[0] > 0 else 1
    return slots.shape[0]


@lean_njit()
def count_dense(rows, counts, slots, out_first):
    """Count rows up to the first without a slot; return their number.

    Writes the first row of each vacant slot into ``out_first`` (uint64[n]).

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
def direct_slot(header, index, keys, at, key):
    """Return the slot of a key, adding it if necessary; 0 if that needs the slow path.

    ``at`` is the offset in the span of a slice whose region is known.
    """
    position = np.uint64(key - header[at + SPAN_LOW])
    if position >= np.uint64(header[at + SPAN_WIDTH]):
        return np.int64(0)
    position += np.uint64(header[at + SPAN_BASE])
    slot = np.int64(index[position])
    fields = REGIONS_AT + header[at + SPAN_REGION] * REGION_FIELDS
    if slot == 0 and header[fields + ROOM] > 0:
        slot = take_slot(header, fields)
        keys[slot] = key
        index[position] = np.uint32(slot)
    return slot


def warm_up():
    """Compile every kernel for the arguments the engine passes."""
    header = header_of_two()
    keys = np.zeros(1, dtype=np.int64)
    index, slots = np.zeros(8, dtype=np.uint32), np.zeros(0, dtype=np.uint32)
    words = np.zeros(0, dtype=np.int64)
    words.setflags(write=False)
    locate_in_two(header, words, words, 0, slots)
    locate_in_many(header, words, np.zeros(0, dtype=np.uint64), slots)
    look_up(index, slots)
    count_direct(keys, words, slots)
    count_dense(keys, words, slots, np.zeros(0, dtype=np.uint64))
    direct_slot(header, index, keys, SPAN_AT, 0)
