"""Entries of a snapshot into a table that does not have their keys: nothing is looked up.

The slices are open, as large as they will be. Entries are put side by side, then the index is
made of them: a restart takes a third of the time that `key_resolve` needs.
"""

import numpy as np

from hpcstream.kernels.compiling import lean_njit
from hpcstream.kernels.key_table import (
    COUNT,
    DENSE_BASE,
    LOW,
    N_HELD,
    N_LIVE,
    NEXT_SLOT,
    NULL_SLOT,
    REGION_END,
    REGION_FIELDS,
    REGIONS_AT,
    ROOM,
    STATE,
    index_entries,
    note_dense,
)


@lean_njit()
def first_order(positions, counts, out_order):
    """Write which entry is at each position of its segment.

    Parameters
    ----------
    positions : uint32[n]
        Position of each entry in its segment.
    counts : int64[n_segments]
        Entries of each segment.
    out_order : uint32[n]
        Entries, counted through all segments.
    """
    begin = np.int64(0)
    for segment in range(counts.shape[0]):
        end = begin + counts[segment]
        for entry in range(begin, end):
            out_order[begin + np.int64(positions[entry])] = np.uint32(entry)
        begin = np.int64(end)


@lean_njit()
def count_dense(columns, counts, lows, widths, out_counts):
    """Write how many entries of each segment are of keys in its range.

    Parameters
    ----------
    columns : (words, is_null)
        int64[n], keys; bool[n], empty if none is null.
    counts : int64[n_segments]
        Entries of each segment.
    lows, widths : int64[n_segments]
        The ranges.
    out_counts : int64[n_segments]
    """
    words, is_null = columns
    begin = np.int64(0)
    for segment in range(counts.shape[0]):
        end = begin + counts[segment]
        n_dense = np.int64(0)
        low, width = lows[segment], np.uint64(widths[segment])
        for entry in range(begin, end if width > 0 else begin):
            null = is_null.shape[0] > 0 and is_null[entry]
            n_dense += np.uint64(words[entry] - low) < width and not null
        out_counts[segment] = n_dense
        begin = np.int64(end)


@lean_njit()
def load_entries(header, keys, rows, segments, columns, order, out_slots):
    """Put the entries of segments into their regions, which have room and none of these keys.

    `index_regions` must follow.

    Parameters
    ----------
    header, keys, rows : the table
    segments : (regions, counts, n_dense)
        int64[n_segments] each: where the entries of a segment belong, how many they are, and
        how many of them, which come first, are of keys that the region is dense for.
    columns : (words, totals, is_null)
        int64[], keys; int64[], rows; bool[], empty if no key is null.
    order : uint32[n] or uint32[0]
        Which entries are loaded, segment by segment; all as they are if it is empty.
    out_slots : uint32[n]
        Slot of each entry, in this order.
    """
    regions, counts, n_dense = segments
    words, totals, is_null = columns
    begin = np.int64(0)
    for segment in range(regions.shape[0]):
        at = REGIONS_AT + regions[segment] * REGION_FIELDS
        others, end = begin + n_dense[segment], begin + counts[segment]
        for nth in range(begin, others):
            entry = np.int64(order[nth]) if order.shape[0] > 0 else nth
            slot = header[at + DENSE_BASE] + words[entry] - header[at + LOW]
            rows[slot] = totals[entry]
            out_slots[nth] = np.uint32(slot)
        slot = header[at + NEXT_SLOT]
        for nth in range(others, end):
            entry = np.int64(order[nth]) if order.shape[0] > 0 else nth
            keys[slot] = words[entry]
            rows[slot] = totals[entry]
            if is_null.shape[0] > 0 and is_null[entry]:
                header[at + NULL_SLOT] = slot
            out_slots[nth] = np.uint32(slot)
            slot += 1
        note_dense(header, at, n_dense[segment])
        n_others = end - others
        header[at + NEXT_SLOT] += n_others
        header[at + ROOM] -= n_others
        header[at + COUNT] += n_others
        header[N_LIVE] += n_others
        header[N_HELD] += n_others
        begin = np.int64(end)


@lean_njit()
def index_regions(header, index, keys):
    """Put the entries of all regions, whose parts of the index are empty, into the index."""
    for region in range(header[REGION_END]):
        at = REGIONS_AT + region * REGION_FIELDS
        if header[at + STATE] != 0 and header[at + COUNT] > 0:
            index_entries(header, index, keys, at)


@lean_njit()
def move_words(source, order, slots, out):
    """Copy the words (uint64) of entries to their slots, as `load_entries` did the keys."""
    if order.shape[0] == 0:
        for nth in range(slots.shape[0]):
            out[slots[nth]] = source[nth]
    else:
        for nth in range(slots.shape[0]):
            out[slots[nth]] = source[order[nth]]


def warm_up():
    """Compile every kernel for the arguments the engine passes."""
    header = np.zeros(REGIONS_AT + REGION_FIELDS, dtype=np.int64)
    keys, rows = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    index, out = np.zeros(8, dtype=np.uint32), np.zeros(0, dtype=np.uint64)
    slots, read = np.zeros(0, dtype=np.uint32), np.zeros(0, dtype=np.int64)
    flags, order, words = np.zeros(0, dtype=np.bool_), slots.view(), out.view()
    for array in (read, flags, order, words):
        array.setflags(write=False)
    first_order(order, read, slots)
    count_dense((read, flags), read, read, read, keys[:0])
    load_entries(header, keys, rows, (read, read, read), (read, read, flags), order, slots)
    index_regions(header, index, keys)
    move_words(words, order, slots, out)
