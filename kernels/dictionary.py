"""Finds the entries of a dictionary that the rows of each partition use."""

import numpy as np

from hpcstream.kernels.compiling import lean_njit


@lean_njit()
def compact_dictionary(
    indices, order, offsets, first_number, numbers, out_indices, out_used, out_used_offsets
):
    """Assign numbers to the entries that each partition uses, from 0 in the order of first use.

    Parameters
    ----------
    indices : int64[n_rows]
        Entry of each row; undefined for null rows.
    order : int32[n_ordered] or int32[0]
        Row numbers grouped by partition; empty if rows keep their order.
    offsets : int64[n_partitions + 1]
        Partition ``p`` is ``order[offsets[p]:offsets[p + 1]]``.
    first_number : int64
        The result of the previous call with these ``numbers``; 0 for the first call.
    numbers : int64[n_entries]
        Scratch: the numbers of entries, all less than ``first_number``. They only increase,
        so it is not cleared between partitions.
    out_indices : int64[n_ordered]
        Entry of each ordered row, among those that its partition uses.
    out_used : int32[n_ordered]
        Entries in use, grouped by partition.
    out_used_offsets : int64[n_partitions + 1]
        Partition ``p`` uses ``out_used[out_used_offsets[p]:out_used_offsets[p + 1]]``.

    Returns
    -------
    int64
        The first unused number.
    """
    ordered = order.shape[0] > 0
    n_entries = numbers.shape[0]
    number = first_number
    out_used_offsets[0] = 0
    for partition in range(offsets.shape[0] - 1):
        start = number
        for position in range(offsets[partition], offsets[partition + 1]):
            entry = indices[order[position] if ordered else position]
            out_indices[position] = 0
            if 0 <= entry < n_entries:
                if numbers[entry] < start:
                    numbers[entry] = number
                    out_used[number - first_number] = entry
                    number += 1
                out_indices[position] = numbers[entry] - start
        out_used_offsets[partition + 1] = number - first_number
    return number


def warm_up():
    """Compile what the engine calls: indices of Arrow are read-only."""
    indices = np.zeros(1, dtype=np.int64)
    indices.setflags(write=False)
    order = np.zeros(1, dtype=np.int32)
    one, two = np.full(1, -1, dtype=np.int64), np.array([0, 1])
    compact_dictionary(indices, order, two, 0, one, one.copy(), order.copy(), two.copy())
