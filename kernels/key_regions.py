"""Regions of the table of `hpcstream.kernels.key_table`: what they hold, clearing, closing."""

import numpy as np

from hpcstream.kernels.compiling import lean_njit
from hpcstream.kernels.key_table import (
    CHUNK_END,
    CHUNK_FIELDS,
    CHUNKS_AT,
    COUNT,
    DENSE_BASE,
    DENSE_LIVE,
    DENSE_SLOTS,
    DIRECTORY_AT,
    DIRECTORY_SIZE,
    ENTRY_END,
    FIRST_CHUNK,
    FREE_REGION,
    INDEX_BASE,
    INDEX_BITS,
    INDEX_END,
    LAST_COUNT,
    LAST_REGION,
    N_CLEARS,
    N_DENSE,
    N_HELD,
    N_LISTED,
    N_LIVE,
    N_OPEN,
    NO_CHUNK,
    NULL_SLOT,
    NUMBER,
    PEAK_HELD,
    REGION_END,
    REGION_FIELDS,
    REGIONS_AT,
    STATE,
    WIDTH,
    directory_home,
)


@lean_njit()
def dense_slots(book, rows, at, out_slots):
    """Write the slots of a region that have rows among those it is dense for; return how many.

    ``at`` is where the region's fields are.
    """
    base = np.uint64(book[at + DENSE_BASE])
    n_found = np.uint64(0)
    if book[at + N_DENSE] > 0:
        for slot in range(base, base + np.uint64(book[at + WIDTH])):
            out_slots[n_found] = np.uint32(slot)
            n_found += np.uint64(rows[slot] != 0)
    return np.int64(n_found)


@lean_njit()
def other_slots(book, at, out_slots):
    """Write the slots of a region's other entries, in insertion order (uint32[count])."""
    left = book[at + COUNT]
    link = book[CHUNKS_AT] + book[at + FIRST_CHUNK] * CHUNK_FIELDS
    done = 0
    while left > 0:
        n_here = min(left, book[link + 1])
        for position in range(n_here):
            out_slots[done + position] = np.uint32(book[link] + position)
        done += n_here
        left -= n_here
        link = book[CHUNKS_AT] + book[link + 2] * CHUNK_FIELDS


@lean_njit()
def slots_of_regions(book, rows, regions, out_slots):
    """Write the slots of several regions (int64[n]), one after the other.

    ``out_slots`` (uint32[...]) has room for one more than there are.
    """
    done = np.int64(0)
    for position in range(regions.shape[0]):
        at = REGIONS_AT + regions[position] * REGION_FIELDS
        done += dense_slots(book, rows, at, out_slots[done:])
        other_slots(book, at, out_slots[done : done + book[at + COUNT]])
        done += book[at + COUNT]


@lean_njit()
def listed_regions(book, limit, out_numbers, out_regions):
    """Write the slices with a number below ``limit`` and their regions; return how many."""
    n_found = 0
    for region in range(book[REGION_END]):
        at = REGIONS_AT + region * REGION_FIELDS
        if book[at + STATE] == 1 and book[at + NUMBER] < limit:
            out_numbers[n_found] = book[at + NUMBER]
            out_regions[n_found] = region
            n_found += 1
    return n_found


@lean_njit()
def _widened(book, keys, region, low, high):
    """Return a range of keys and with it those in the index of a region."""
    at = REGIONS_AT + region * REGION_FIELDS
    left = book[at + COUNT]
    link = book[CHUNKS_AT] + book[at + FIRST_CHUNK] * CHUNK_FIELDS
    while left > 0:
        n_here = min(left, book[link + 1])
        for slot in range(book[link], book[link] + n_here):
            if slot != book[at + NULL_SLOT]:
                low = min(low, keys[slot])
                high = max(high, keys[slot])
        left -= n_here
        link = book[CHUNKS_AT] + book[link + 2] * CHUNK_FIELDS
    return low, high


@lean_njit()
def key_range(book, keys):
    """Return the least and the greatest key of all indexes; least > greatest: no key."""
    low, high = np.int64(2**63 - 1), np.int64(-(2**63))
    for region in range(book[REGION_END]):
        if book[REGIONS_AT + region * REGION_FIELDS + STATE] != 0:
            low, high = _widened(book, keys, region, low, high)
    return low, high


@lean_njit()
def range_of_keys(book, keys, regions):
    """Return what `key_range` does for the indexes of some regions (int64[n])."""
    low, high = np.int64(2**63 - 1), np.int64(-(2**63))
    for position in range(regions.shape[0]):
        low, high = _widened(book, keys, regions[position], low, high)
    return low, high


@lean_njit()
def _place_null_slot(book, at, slots, n_before):
    """Replace a region's null slot, if it has one, by one plus its place behind ``n_before``."""
    if book[at + NULL_SLOT] != 0:
        for place in range(slots.shape[0]):
            if np.int64(slots[place]) == book[at + NULL_SLOT]:
                book[at + NULL_SLOT] = n_before + place + 1
                break


@lean_njit()
def held_slots(book, out_slots):
    """Write the slots that regions hold, region by region, into ``out_slots`` (uint32[n_held]).

    Each region's null slot is replaced by one plus its place among the entries that
    it is not dense for: `relocate` must follow.
    """
    done = 0
    for region in range(book[REGION_END]):
        at = REGIONS_AT + region * REGION_FIELDS
        if book[at + STATE] == 0:
            continue
        for place in range(book[at + WIDTH]):
            out_slots[done + place] = np.uint32(book[at + DENSE_BASE] + place)
        done += book[at + WIDTH]
        slots = out_slots[done : done + book[at + COUNT]]
        other_slots(book, at, slots)
        _place_null_slot(book, at, slots, 0)
        done += book[at + COUNT]


@lean_njit()
def give_up_dense(book, rows, out_slots):
    """Write the slots of all entries, of regions that are no longer dense, as `held_slots`."""
    done = 0
    book[N_HELD] = book[N_LIVE]
    book[DENSE_SLOTS] = book[DENSE_LIVE] = 0
    for region in range(book[REGION_END]):
        at = REGIONS_AT + region * REGION_FIELDS
        if book[at + STATE] == 0:
            continue
        n_dense = dense_slots(book, rows, at, out_slots[done:])
        slots = out_slots[done + n_dense : done + n_dense + book[at + COUNT]]
        other_slots(book, at, slots)
        _place_null_slot(book, at, slots, n_dense)
        book[at + COUNT] += n_dense
        book[at + N_DENSE] = 0
        book[at + WIDTH] = 0
        done += book[at + COUNT]


@lean_njit()
def _unlist_region(book, region):
    """Remove a region from the directory, closing the gap behind it."""
    mask = book[DIRECTORY_SIZE] - 1
    directory = book[DIRECTORY_AT]
    gap = directory_home(book, book[REGIONS_AT + region * REGION_FIELDS + NUMBER])
    while book[directory + gap] != region + 1:
        gap = (gap + 1) & mask
    place = gap
    while True:
        place = (place + 1) & mask
        found = book[directory + place]
        if found == 0:
            break
        home = directory_home(book, book[REGIONS_AT + (found - 1) * REGION_FIELDS + NUMBER])
        # It may fill the gap unless its home lies between the gap and its place.
        if ((place - home) & mask) >= ((place - gap) & mask):
            book[directory + gap] = found
            gap = place
    book[directory + gap] = 0


@lean_njit()
def _release(book, at):
    """Let go of the storage of a region that closes: to the arenas, or for another slice.

    What lies at the ends of the arenas is given back to them, as after a merged
    window; else a region keeps its chunks and its index.
    """
    chunk = book[at + FIRST_CHUNK]
    link = book[CHUNKS_AT] + chunk * CHUNK_FIELDS
    is_one_chunk = book[link + 2] == NO_CHUNK
    is_last_index = (
        book[at + INDEX_BASE] + (np.int64(1) << book[at + INDEX_BITS]) == book[INDEX_END]
    )
    is_last_chunk = is_one_chunk and book[link] + book[link + 1] == book[ENTRY_END]
    if is_last_chunk:  # the last of the chunks, too: both go up together
        book[ENTRY_END] = book[at + DENSE_BASE]
        book[CHUNK_END] = chunk
    if is_last_index:
        book[INDEX_END] = book[at + INDEX_BASE]
    if is_last_chunk or is_last_index:
        book[at + FIRST_CHUNK] = NO_CHUNK


@lean_njit()
def close_regions(book, regions):
    """Forget regions (int64[n]), whose slots `clear_slots` has made like new.

    Slots that no other slice can use stay where they are until `relocate`.
    """
    book[PEAK_HELD] = max(book[N_HELD], book[PEAK_HELD] - (book[PEAK_HELD] >> 4))
    for position in range(regions.shape[0]):
        region = regions[position]
        at = REGIONS_AT + region * REGION_FIELDS
        if book[at + STATE] == 1:
            _unlist_region(book, region)
            book[N_LISTED] -= 1
            book[DENSE_SLOTS] -= book[at + WIDTH]
            book[DENSE_LIVE] -= book[at + N_DENSE]
            book[LAST_COUNT] = book[at + COUNT]
        if book[LAST_REGION] == region:
            book[LAST_REGION] = -1
        _release(book, at)
        book[N_LIVE] -= book[at + COUNT] + book[at + N_DENSE]
        book[N_HELD] -= book[at + COUNT] + book[at + WIDTH]
        book[N_OPEN] -= 1
        book[at + STATE] = 0
        book[at + NUMBER] = book[FREE_REGION]
        book[FREE_REGION] = region


@lean_njit()
def clear_slots(book, regions, identity, out_words):
    """Set the word (int64[capacity]) of every slot of some regions to its ``identity``."""
    for position in range(regions.shape[0]):
        at = REGIONS_AT + regions[position] * REGION_FIELDS
        base = book[at + DENSE_BASE]
        out_words[base : base + book[at + WIDTH]] = identity
        left = book[at + COUNT]
        link = book[CHUNKS_AT] + book[at + FIRST_CHUNK] * CHUNK_FIELDS
        while left > 0:
            n_here = min(left, book[link + 1])
            out_words[book[link] : book[link] + n_here] = identity
            left -= n_here
            link = book[CHUNKS_AT] + book[link + 2] * CHUNK_FIELDS


@lean_njit()
def clear_entries(book, rows, region, slots):
    """Take the rows of entries (uint32[n]) of a region; slots it is dense for are vacant then."""
    at = REGIONS_AT + region * REGION_FIELDS
    base, width = book[at + DENSE_BASE], np.uint64(book[at + WIDTH])
    n_vacant = np.int64(0)
    for entry in range(slots.shape[0]):
        slot = np.int64(slots[entry])
        n_vacant += rows[slot] != 0 and np.uint64(slot - base) < width
        rows[slot] = 0
    book[at + N_CLEARS] += 1
    book[at + N_DENSE] -= n_vacant
    book[N_LIVE] -= n_vacant
    if book[at + STATE] == 1:
        book[DENSE_LIVE] -= n_vacant


def warm_up():
    """Compile every kernel for the arguments the engine passes."""
    book = np.zeros(REGIONS_AT + REGION_FIELDS, dtype=np.int64)
    none, slots = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.uint32)
    rows = none.copy()
    slots_of_regions(book, rows, none, slots)
    listed_regions(book, 0, none, none)
    close_regions(book, none)
    clear_slots(book, none, 0, rows)
    clear_entries(book, rows, 0, slots)
    held_slots(book, slots)
    give_up_dense(book, rows, slots)
    key_range(book, rows)
    range_of_keys(book, rows, none)
