"""Reads, clears and closes the regions of the table of `hpcstream.kernels.key_table`."""

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
def dense_slots(header, rows, at, out_slots):
    """Write the dense slots of a region that have rows; return their number.

    ``at`` is the offset of the region's fields.
    """
    base = np.uint64(header[at + DENSE_BASE])
    n_found = np.uint64(0)
    if header[at + N_DENSE] > 0:
        for slot in range(base, base + np.uint64(header[at + WIDTH])):
            out_slots[n_found] = np.uint32(slot)
            n_found += np.uint64(rows[slot] != 0)
    return np.int64(n_found)


@lean_njit()
def other_slots(header, at, out_slots):
    """Write the slots of a region's other entries, in insertion order (uint32[count])."""
    left = header[at + COUNT]
    link = header[CHUNKS_AT] + header[at + FIRST_CHUNK] * CHUNK_FIELDS
    done = 0
    while left > 0:
        n_here = min(left, header[link + 1])
        for position in range(n_here):
            out_slots[done + position] = np.uint32(header[link] + position)
        done += n_here
        left -= n_here
        link = header[CHUNKS_AT] + header[link + 2] * CHUNK_FIELDS


@lean_njit()
def slots_of_regions(header, rows, regions, out_slots):
    """Write the slots of several regions (int64[n]), one region after the other.

    ``out_slots`` (uint32[...]) has room for one slot more than the result.
    """
    done = np.int64(0)
    for position in range(regions.shape[0]):
        at = REGIONS_AT + regions[position] * REGION_FIELDS
        done += dense_slots(header, rows, at, out_slots[done:])
        other_slots(header, at, out_slots[done : done + header[at + COUNT]])
        done += header[at + COUNT]


@lean_njit()
def listed_regions(header, limit, out_numbers, out_regions):
    """Write the slices with a number below ``limit`` and their regions; return their number."""
    n_found = 0
    for region in range(header[REGION_END]):
        at = REGIONS_AT + region * REGION_FIELDS
        if header[at + STATE] == 1 and header[at + NUMBER] < limit:
            out_numbers[n_found] = header[at + NUMBER]
            out_regions[n_found] = region
            n_found += 1
    return n_found


@lean_njit()
def _widened(header, keys, region, low, high):
    """Return a range of keys, extended by the keys in the index of a region."""
    at = REGIONS_AT + region * REGION_FIELDS
    left = header[at + COUNT]
    link = header[CHUNKS_AT] + header[at + FIRST_CHUNK] * CHUNK_FIELDS
    while left > 0:
        n_here = min(left, header[link + 1])
        for slot in range(header[link], header[link] + n_here):
            if slot != header[at + NULL_SLOT]:
                low = min(low, keys[slot])
                high = max(high, keys[slot])
        left -= n_here
        link = header[CHUNKS_AT] + header[link + 2] * CHUNK_FIELDS
    return low, high


@lean_njit()
def key_range(header, keys):
    """Return the least and the greatest key of all indexes; least > greatest if there is none."""
    low, high = np.int64(2**63 - 1), np.int64(-(2**63))
    for region in range(header[REGION_END]):
        if header[REGIONS_AT + region * REGION_FIELDS + STATE] != 0:
            low, high = _widened(header, keys, region, low, high)
    return low, high


@lean_njit()
def range_of_keys(header, keys, regions):
    """Return the least and the greatest key of some regions (int64[n]), as `key_range`."""
    low, high = np.int64(2**63 - 1), np.int64(-(2**63))
    for position in range(regions.shape[0]):
        low, high = _widened(header, keys, regions[position], low, high)
    return low, high


@lean_njit()
def _renumber_null_slot(header, at, slots, n_before):
    """Replace a region's null slot, if it has one, by 1 + ``n_before`` + its index in ``slots``."""
    if header[at + NULL_SLOT] != 0:
        for position in range(slots.shape[0]):
            if np.int64(slots[position]) == header[at + NULL_SLOT]:
                header[at + NULL_SLOT] = n_before + position + 1
                break


@lean_njit()
def held_slots(header, out_slots):
    """Write the slots that regions hold, region by region, into ``out_slots`` (uint32[n_held]).

    Each region's null slot is replaced by 1 plus its index among the entries that are not
    dense: `relocate` must follow.
    """
    done = 0
    for region in range(header[REGION_END]):
        at = REGIONS_AT + region * REGION_FIELDS
        if header[at + STATE] == 0:
            continue
        for position in range(header[at + WIDTH]):
            out_slots[done + position] = np.uint32(header[at + DENSE_BASE] + position)
        done += header[at + WIDTH]
        slots = out_slots[done : done + header[at + COUNT]]
        other_slots(header, at, slots)
        _renumber_null_slot(header, at, slots, 0)
        done += header[at + COUNT]


@lean_njit()
def give_up_dense(header, rows, out_slots):
    """Make all regions not dense, and write the slots of all entries, as `held_slots` does."""
    done = 0
    header[N_HELD] = header[N_LIVE]
    header[DENSE_SLOTS] = header[DENSE_LIVE] = 0
    for region in range(header[REGION_END]):
        at = REGIONS_AT + region * REGION_FIELDS
        if header[at + STATE] == 0:
            continue
        n_dense = dense_slots(header, rows, at, out_slots[done:])
        slots = out_slots[done + n_dense : done + n_dense + header[at + COUNT]]
        other_slots(header, at, slots)
        _renumber_null_slot(header, at, slots, n_dense)
        header[at + COUNT] += n_dense
        header[at + N_DENSE] = 0
        header[at + WIDTH] = 0
        done += header[at + COUNT]


@lean_njit()
def _unlist_region(header, region):
    """Remove a region from the directory, and close the gap."""
    mask = header[DIRECTORY_SIZE] - 1
    directory = header[DIRECTORY_AT]
    gap = directory_home(header, header[REGIONS_AT + region * REGION_FIELDS + NUMBER])
    while header[directory + gap] != region + 1:
        gap = (gap + 1) & mask
    position = gap
    while True:
        position = (position + 1) & mask
        found = header[directory + position]
        if found == 0:
            break
        home = directory_home(header, header[REGIONS_AT + (found - 1) * REGION_FIELDS + NUMBER])
        # It may fill the gap unless its home is between the gap and its position.
        if ((position - home) & mask) >= ((position - gap) & mask):
            header[directory + gap] = found
            gap = position
    header[directory + gap] = 0


@lean_njit()
def _release(header, at):
    """Release the storage of a region that closes: to the arenas, or for another slice.

    Storage at the ends of the arenas returns to them, as after a merged window; otherwise the
    region keeps its chunks and its index.
    """
    chunk = header[at + FIRST_CHUNK]
    link = header[CHUNKS_AT] + chunk * CHUNK_FIELDS
    is_one_chunk = header[link + 2] == NO_CHUNK
    is_last_index = (
        header[at + INDEX_BASE] + (np.int64(1) << header[at + INDEX_BITS]) == header[INDEX_END]
    )
    is_last_chunk = is_one_chunk and header[link] + header[link + 1] == header[ENTRY_END]
    if is_last_chunk:  # in both arenas, which grow together
        header[ENTRY_END] = header[at + DENSE_BASE]
        header[CHUNK_END] = chunk
    if is_last_index:
        header[INDEX_END] = header[at + INDEX_BASE]
    if is_last_chunk or is_last_index:
        header[at + FIRST_CHUNK] = NO_CHUNK


@lean_njit()
def close_regions(header, regions):
    """Close regions (int64[n]), whose slots `clear_slots` has reset.

    Slots that no other slice can use remain unused until `relocate`.
    """
    header[PEAK_HELD] = max(header[N_HELD], header[PEAK_HELD] - (header[PEAK_HELD] >> 4))
    for position in range(regions.shape[0]):
        region = regions[position]
        at = REGIONS_AT + region * REGION_FIELDS
        if header[at + STATE] == 1:
            _unlist_region(header, region)
            header[N_LISTED] -= 1
            header[DENSE_SLOTS] -= header[at + WIDTH]
            header[DENSE_LIVE] -= header[at + N_DENSE]
            header[LAST_COUNT] = header[at + COUNT]
        if header[LAST_REGION] == region:
            header[LAST_REGION] = -1
        _release(header, at)
        header[N_LIVE] -= header[at + COUNT] + header[at + N_DENSE]
        header[N_HELD] -= header[at + COUNT] + header[at + WIDTH]
        header[N_OPEN] -= 1
        header[at + STATE] = 0
        header[at + NUMBER] = header[FREE_REGION]
        header[FREE_REGION] = region


@lean_njit()
def clear_slots(header, regions, identity, out_words):
    """Reset a word (int64[capacity]) of every slot of some regions to its ``identity``."""
    for position in range(regions.shape[0]):
        at = REGIONS_AT + regions[position] * REGION_FIELDS
        base = header[at + DENSE_BASE]
        out_words[base : base + header[at + WIDTH]] = identity
        left = header[at + COUNT]
        link = header[CHUNKS_AT] + header[at + FIRST_CHUNK] * CHUNK_FIELDS
        while left > 0:
            n_here = min(left, header[link + 1])
            out_words[header[link] : header[link] + n_here] = identity
            left -= n_here
            link = header[CHUNKS_AT] + header[link + 2] * CHUNK_FIELDS


@lean_njit()
def clear_entries(header, rows, region, slots):
    """Take the rows of entries (uint32[n]) of a region; slots it is dense for are vacant then."""
    at = REGIONS_AT + region * REGION_FIELDS
    base, width = header[at + DENSE_BASE], np.uint64(header[at + WIDTH])
    n_vacant = np.int64(0)
    for entry in range(slots.shape[0]):
        slot = np.int64(slots[entry])
        n_vacant += rows[slot] != 0 and np.uint64(slot - base) < width
        rows[slot] = 0
    header[at + N_CLEARS] += 1
    header[at + N_DENSE] -= n_vacant
    header[N_LIVE] -= n_vacant
    if header[at + STATE] == 1:
        header[DENSE_LIVE] -= n_vacant


def warm_up():
    """Compile every kernel for the arguments the engine passes."""
    header = np.zeros(REGIONS_AT + REGION_FIELDS, dtype=np.int64)
    none, slots = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.uint32)
    rows = none.copy()
    slots_of_regions(header, rows, none, slots)
    listed_regions(header, 0, none, none)
    close_regions(header, none)
    clear_slots(header, none, 0, rows)
    clear_entries(header, rows, 0, slots)
    held_slots(header, slots)
    give_up_dense(header, rows, slots)
    key_range(header, rows)
    range_of_keys(header, rows, none)
