"""Finds the slots of rows as `key_resolve` does, but adds no entries."""

import numpy as np

from hpcstream.kernels.compiling import lean_njit
from hpcstream.kernels.key_table import (
    DENSE_BASE,
    LOW,
    NULL_SLOT,
    REGION_FIELDS,
    REGIONS_AT,
    SLICE_OFFSET,
    SLICE_SIZE,
    WIDTH,
    find_position,
    find_region,
    header_of_two,
)


@lean_njit(inline="always")
def _slot_there(header, index, keys, at, key):
    """Return the slot of a key in the region with fields ``at``; 0 if it has none."""
    distance = np.uint64(key - header[at + LOW])
    if distance < np.uint64(header[at + WIDTH]):
        return header[at + DENSE_BASE] + np.int64(distance)
    return np.int64(index[find_position(header, index, keys, at, key)])


@lean_njit()
def find_rows(header, index, keys, rows, columns, out_slots):
    """Write the slot of each row's entry; 0 if there is none, or none with rows.

    Parameters
    ----------
    header, index, keys, rows : the table
        As of `key_resolve.resolve_rows`.
    columns : (times, words, valid)
        int64[n], event times; int64[n], keys; bool[n], False where the key is null,
        empty if none is.
    out_slots : uint32[n]
    """
    times, words, valid = columns
    size, offset = header[SLICE_SIZE], header[SLICE_OFFSET]
    begin = np.int64(0)  # the slice of the row before, which is mostly that of the next
    end = np.int64(0)
    at = np.int64(-1)  # its fields; -1: it is not open
    for row in range(times.shape[0]):
        time = times[row]
        if time < begin or time >= end:
            number = (time - offset) // size
            begin = number * size + offset
            end = begin + size
            region = find_region(header, number)
            at = REGIONS_AT + region * REGION_FIELDS if region >= 0 else np.int64(-1)
        slot = np.int64(0)
        if at >= 0:
            if valid.shape[0] > 0 and not valid[row]:
                slot = header[at + NULL_SLOT]
            else:
                slot = _slot_there(header, index, keys, at, words[row])
        out_slots[row] = np.uint32(slot if rows[slot] != 0 else 0)


def warm_up():
    """Compile every kernel for the arguments the engine passes."""
    header = header_of_two()
    keys, rows = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    index, slots = np.zeros(8, dtype=np.uint32), np.zeros(0, dtype=np.uint32)
    valid = np.zeros(0, dtype=np.bool_)
    words = np.zeros(0, dtype=np.int64)
    for array in (valid, words):
        array.setflags(write=False)
    find_rows(header, index, keys, rows, (words, words, valid), slots)
