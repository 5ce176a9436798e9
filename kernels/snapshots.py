"""Copies regions of the table of `hpcstream.kernels.key_table` for snapshots."""

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
def order_by_group(groups, counts, bins, out_indices):
    """Sort the entries of each segment by key group.

    A stable counting sort; the segments are contiguous.

    Parameters
    ----------
    groups : uint16[n_entries]
    counts : int64[n_segments]
        Entries of each segment.
    bins : int64[greatest group + 2 or more]
        Scratch.
    out_indices : uint32[n_entries]
        The original index of each entry in its segment.
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
            out_indices[begin + bins[bin_]] = np.uint32(entry - begin)
            bins[bin_] += 1
        begin = np.int64(end)


@lean_njit()
def copy_regions(header, rows, regions, source, out):
    """Copy the values of the slots of regions (int64[n]), in the order of `slots_of_regions`.

    ``source`` and ``out`` are uint64 views of any array of slots.
    """
    done = np.uint64(0)
    for position in range(regions.shape[0]):
        at = REGIONS_AT + regions[position] * REGION_FIELDS
        if header[at + N_DENSE] == header[at + WIDTH]:
            n_dense = np.uint64(header[at + WIDTH])
            first = np.uint64(header[at + DENSE_BASE])
            copy_items(source, first, n_dense, out, done)
            done += n_dense
        else:
            for slot in range(
                header[at + DENSE_BASE], header[at + DENSE_BASE] + header[at + WIDTH]
            ):
                if rows[slot] != 0:
                    out[done] = source[slot]
                    done += np.uint64(1)
        left = header[at + COUNT]
        link = header[CHUNKS_AT] + header[at + FIRST_CHUNK] * CHUNK_FIELDS
        while left > 0:
            n_here = min(left, header[link + 1])
            copy_items(source, header[link], n_here, out, done)
            done += np.uint64(n_here)
            left -= n_here
            link = header[CHUNKS_AT] + header[link + 2] * CHUNK_FIELDS


@lean_njit()
def rows_of_regions(header, rows, regions, out_totals):
    """Write the total of ``rows`` (int64[n_slots]) of each region."""
    for position in range(regions.shape[0]):
        at = REGIONS_AT + regions[position] * REGION_FIELDS
        left = header[at + COUNT]
        link = header[CHUNKS_AT] + header[at + FIRST_CHUNK] * CHUNK_FIELDS
        # Sums of slices compile to vector instructions, six times as fast as a loop over slots.
        total = rows[header[at + DENSE_BASE] : header[at + DENSE_BASE] + header[at + WIDTH]].sum()
        while left > 0:
            n_here = min(left, header[link + 1])
            total += rows[header[link] : header[link] + n_here].sum()
            left -= n_here
            link = header[CHUNKS_AT] + header[link + 2] * CHUNK_FIELDS
        out_totals[position] = total


def warm_up():
    """Compile every kernel for the arguments the engine passes."""
    header = np.zeros(REGIONS_AT + REGION_FIELDS, dtype=np.int64)
    none, words = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.uint64)
    groups, indices = np.zeros(0, dtype=np.uint16), np.zeros(0, dtype=np.uint32)
    order_by_group(groups, none, none, indices)
    copy_regions(header, none, none, words, words)
    rows_of_regions(header, none, none, none)
