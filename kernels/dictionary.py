"""Dictionary-encoded columns: the entries that the rows of each partition use."""

import numpy as np

from hpcstream.kernels.compiling import lean_njit


@lean_njit()
def compact_dictionary(
    indices, order, offsets, first_number, numbers, out_indices, out_used, out_used_offsets
):
    """Give each entry that a partition uses a number, from 0 in the order of first use.

    Parameters
    ----------
    indices : int64[n_rows]
        Entry of each row. Anything may stand in the slot of a null row.
    order : int32[n_ordered] or int32[0]
        Row numbers grouped by partition; empty when rows stay as they lie.
    offsets : int64[n_partitions + 1]
        Partition ``p`` is ``order[offsets[p]:offsets[p + 1]]``.
    first_number : int64
        What the last call with these ``numbers`` returned; 0 at first.
    numbers : int64[n_entries]
        Where the numbers of entries are kept; less than ``first_number``.
        Numbers only grow, so that it need not be cleared between partitions.
    out_indices : int64[n_ordered]
        Entry of each ordered row, among those that its partition uses.
    out_used : int32[n_ordered]
        Entries in use, grouped by partition.
    out_used_offsets : int64[n_partitions + 1]
        Partition ``p`` uses ``out_used[out_used_offsets[p]:out_used_offsets[p + 1]]``.

    Returns
    -------
    int64
        The first number that is free.
    """
    ordered = order.shape[0] > 0
    n_entries = numbers.shape[0]
    number = first_number
    out_used_offsets[0] = 0
    for partition in range(offsets.shape[0] - 1):
        start = number
        for place in range(offsets[partition], offsets[partition + 1]):
            entry = indices[order[place] if ordered else place]
            out_indices[place] = 0
            if 0 <= entry < n_entries:
                if numbers[entry] < start:
                    numbers[entry] = number
                    out_used[number - first_number] = entry
                    number += 1
                out_indices[place] = numbers[entry] - start
        out_used_offsets[partition + 1] = number - first_number
    return number


def warm_up():
    """Compile what the engine calls: indices of Arrow are read-only."""
    indices = np.zeros(1, dtype=np.int64)
    indices.setflags(write=False)
    order = np.zeros(1, dtype=np.int32)
    one, two = np.full(1, -1, dtype=np.int64), np.array([0, 1])
    compact_dictionary(indices, order, two, 0, one, one.copy(), order.copy(), two.copy())
