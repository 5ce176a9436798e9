"""Copies of regions of the table of `hpcstream.kernels.key_table`, run by run, for snapshots."""

import numpy as np
from numba import njit

from hpcstream.kernels.key_table import (
    CHUNK_FIELDS,
    CHUNKS_AT,
    COUNT,
    FIRST_CHUNK,
    NULL_SLOT,
    REGION_FIELDS,
    REGIONS_AT,
)


@njit(cache=True, nogil=True)
def copy_regions(book, regions, source, out):
    """Copy the values of the slots of regions (int64[n]), each in insertion order.

    ``source`` and ``out`` are uint64: views of whatever a slot has.
    """
    done = np.int64(0)
    for position in range(regions.shape[0]):
        at = REGIONS_AT + regions[position] * REGION_FIELDS
        left = book[at + COUNT]
        link = book[CHUNKS_AT] + book[at + FIRST_CHUNK] * CHUNK_FIELDS
        while left > 0:
            n_here = min(left, book[link + 1])
            first = book[link]
            out[done : done + n_here] = source[first : first + n_here]
            done += n_here
            left -= n_here
            link = book[CHUNKS_AT] + book[link + 2] * CHUNK_FIELDS


@njit(cache=True, nogil=True)
def mark_null_keys(book, regions, out):
    """Write 1 into ``out`` (uint8[n_slots], ordered as by `copy_regions`) for null keys."""
    done = np.int64(0)
    for position in range(regions.shape[0]):
        at = REGIONS_AT + regions[position] * REGION_FIELDS
        null_slot = book[at + NULL_SLOT]
        left = book[at + COUNT]
        link = book[CHUNKS_AT] + book[at + FIRST_CHUNK] * CHUNK_FIELDS
        while left > 0:
            n_here = min(left, book[link + 1])
            first = book[link]
            if null_slot != 0 and first <= null_slot < first + n_here:
                out[done + null_slot - first] = 1
            done += n_here
            left -= n_here
            link = book[CHUNKS_AT] + book[link + 2] * CHUNK_FIELDS


@njit(cache=True, nogil=True)
def rows_of_regions(book, regions, rows, out_totals):
    """Write the number of rows (int64[n_slots]) of each region: it grows with every row."""
    for position in range(regions.shape[0]):
        at = REGIONS_AT + regions[position] * REGION_FIELDS
        left = book[at + COUNT]
        link = book[CHUNKS_AT] + book[at + FIRST_CHUNK] * CHUNK_FIELDS
        total = np.int64(0)
        while left > 0:
            n_here = min(left, book[link + 1])
            for slot in range(book[link], book[link] + n_here):
                total += rows[slot]
            left -= n_here
            link = book[CHUNKS_AT] + book[link + 2] * CHUNK_FIELDS
        out_totals[position] = total


def warm_up():
    """Compile every kernel for the arguments the engine passes."""
    book = np.zeros(REGIONS_AT + REGION_FIELDS, dtype=np.int64)
    none, words = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.uint64)
    copy_regions(book, none, words, words)
    mark_null_keys(book, none, np.zeros(0, dtype=np.uint8))
    rows_of_regions(book, none, none, none)
