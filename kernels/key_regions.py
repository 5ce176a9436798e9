"""Regions of the table of `hpcstream.kernels.key_table`: what they hold, and closing them."""

import numpy as np
from numba import njit

from hpcstream.kernels.key_table import (
    CHUNK_FIELDS,
    CHUNKS_AT,
    COUNT,
    DIRECTORY_AT,
    DIRECTORY_SIZE,
    ENTRY_END,
    FIRST_CHUNK,
    FREE_REGION,
    INDEX_BASE,
    INDEX_BITS,
    INDEX_END,
    LAST_CHUNK,
    LAST_COUNT,
    LAST_REGION,
    N_LISTED,
    N_LIVE,
    N_OPEN,
    NEXT_SLOT,
    NULL_SLOT,
    NUMBER,
    REGION_END,
    REGION_FIELDS,
    REGIONS_AT,
    ROOM,
    STATE,
    directory_home,
)


@njit(cache=True, nogil=True)
def region_slots(book, region, out_slots):
    """Write the slots of a region, in insertion order, into ``out_slots`` (uint32[count])."""
    at = REGIONS_AT + region * REGION_FIELDS
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


@njit(cache=True, nogil=True)
def slots_of_regions(book, regions, out_slots):
    """Write the slots of several regions (int64[n]), one after the other."""
    done = np.int64(0)
    for position in range(regions.shape[0]):
        count = book[REGIONS_AT + regions[position] * REGION_FIELDS + COUNT]
        region_slots(book, regions[position], out_slots[done : done + count])
        done += count


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def live_slots(book, out_slots):
    """Write the slots of all regions, region by region, into ``out_slots`` (uint32[n_live]).

    Each region's null slot is replaced by one plus its place among the region's
    slots: `relocate` must follow.
    """
    done = 0
    for region in range(book[REGION_END]):
        at = REGIONS_AT + region * REGION_FIELDS
        if book[at + STATE] == 0:
            continue
        slots = out_slots[done : done + book[at + COUNT]]
        region_slots(book, region, slots)
        if book[at + NULL_SLOT] != 0:
            for place in range(slots.shape[0]):
                if np.int64(slots[place]) == book[at + NULL_SLOT]:
                    book[at + NULL_SLOT] = place + 1
                    break
        done += book[at + COUNT]


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def _give_back_end(book, at):
    """Give back what a region holds at the ends of the arenas, as after a merged window."""
    is_one_chunk = book[at + FIRST_CHUNK] == book[at + LAST_CHUNK]
    if is_one_chunk and book[at + NEXT_SLOT] + book[at + ROOM] == book[ENTRY_END]:
        book[ENTRY_END] = book[book[CHUNKS_AT] + book[at + FIRST_CHUNK] * CHUNK_FIELDS]
    if book[at + INDEX_BASE] + (np.int64(1) << book[at + INDEX_BITS]) == book[INDEX_END]:
        book[INDEX_END] = book[at + INDEX_BASE]


@njit(cache=True, nogil=True)
def close_regions(book, regions):
    """Forget regions (int64[n]). Most slots stay unused until `relocate`.

    ``rows`` must be zeroed where ``book[ENTRY_END]`` goes back.
    """
    for position in range(regions.shape[0]):
        region = regions[position]
        at = REGIONS_AT + region * REGION_FIELDS
        if book[at + STATE] == 1:
            _unlist_region(book, region)
            book[N_LISTED] -= 1
        if book[LAST_REGION] == region:
            book[LAST_REGION] = -1
            book[LAST_COUNT] = book[at + COUNT]
        _give_back_end(book, at)
        book[N_LIVE] -= book[at + COUNT]
        book[N_OPEN] -= 1
        book[at + STATE] = 0
        book[at + NUMBER] = book[FREE_REGION]
        book[FREE_REGION] = region


def warm_up():
    """Compile every kernel for the arguments the engine passes."""
    book = np.zeros(REGIONS_AT + REGION_FIELDS, dtype=np.int64)
    none, slots = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.uint32)
    region_slots(book, 0, slots)
    slots_of_regions(book, none, slots)
    listed_regions(book, 0, none, none)
    close_regions(book, none)
    live_slots(book, slots)
