"""Copies of regions of the table of `hpcstream.kernels.key_table`, run by run, for snapshots."""

import numpy as np

from hpcstream.kernels.compiling import lean_njit
from hpcstream.kernels.copying import copy_items
from hpcstream.kernels.key_table import (
    CHUNK_FIELDS,
    CHUNKS_AT,
    COUNT,
    DENSE_BASE,
    FIRST_CHUNK,
    N_DENSE,
    REGION_FIELDS,
    REGIONS_AT,
    WIDTH,
)


@lean_njit()
def order_by_group(groups, counts, bins, out_places):
    """Put the entries of segments that follow one another into the order of their key groups.

    A stable counting sort of each segment.

    Parameters
    ----------
    groups : uint16[n_entries]
    counts : int64[n_segments]
        Entries of each segment.
    bins : int64[more than the greatest group, and one]
        Scratch.
    out_places : uint32[n_entries]
        The place in its segment that each entry had.
    """
    begin = np.int64(0)
    for segment in range(counts.shape[0]):
        end = begin + counts[segment]
        bins[:] = 0
        for entry in range(begin, end):
            bins[np.int64(groups[entry]) + 1] += 1
        for group in range(1, bins.shape[0]):
            bins[group] += bins[group - 1]
        for entry in range(begin, end):
            bin_ = np.int64(groups[entry])
            out_places[begin + bins[bin_]] = np.uint32(entry - begin)
            bins[bin_] += 1
        begin = np.int64(end)


@lean_njit()
def copy_regions(book, rows, regions, source, out):
    """Copy the values of the slots of regions (int64[n]), in the order of `slots_of_regions`.

    ``source`` and ``out`` are uint64: views of whatever a slot has.
    """
    done = np.uint64(0)
    for position in range(regions.shape[0]):
        at = REGIONS_AT + regions[position] * REGION_FIELDS
        if book[at + N_DENSE] == book[at + WIDTH]:
            n_dense = np.uint64(book[at + WIDTH])
            first = np.uint64(book[at + DENSE_BASE])
            copy_items(source, first, n_dense, out, done)
            done += n_dense
        else:
            for slot in range(book[at + DENSE_BASE], book[at + DENSE_BASE] + book[at + WIDTH]):
                if rows[slot] != 0:
                    out[done] = source[slot]
                    done += np.uint64(1)
        left = book[at + COUNT]
        link = book[CHUNKS_AT] + book[at + FIRST_CHUNK] * CHUNK_FIELDS
        while left > 0:
            n_here = min(left, book[link + 1])
            copy_items(source, book[link], n_here, out, done)
            done += np.uint64(n_here)
            left -= n_here
            link = book[CHUNKS_AT] + book[link + 2] * CHUNK_FIELDS


@lean_njit()
def rows_of_regions(book, rows, regions, out_totals):
    """Write the number of rows (int64[n_slots]) of each region: it grows with every row."""
    for position in range(regions.shape[0]):
        at = REGIONS_AT + regions[position] * REGION_FIELDS
        left = book[at + COUNT]
        link = book[CHUNKS_AT] + book[at + FIRST_CHUNK] * CHUNK_FIELDS
        # Sums of slices become vector instructions, six times as fast as a loop over slots.
        total = rows[book[at + DENSE_BASE] : book[at + DENSE_BASE] + book[at + WIDTH]].sum()
        while left > 0:
            n_here = min(left, book[link + 1])
            total += rows[book[link] : book[link] + n_here].sum()
            left -= n_here
            link = book[CHUNKS_AT] + book[link + 2] * CHUNK_FIELDS
        out_totals[position] = total


def warm_up():
    """Compile every kernel for the arguments the engine passes."""
    book = np.zeros(REGIONS_AT + REGION_FIELDS, dtype=np.int64)
    none, words = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.uint64)
    groups, places = np.zeros(0, dtype=np.uint16), np.zeros(0, dtype=np.uint32)
    order_by_group(groups, none, none, places)
    copy_regions(book, none, none, words, words)
    rows_of_regions(book, none, none, none)
