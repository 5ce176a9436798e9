"""Computes key groups and partitions from hashes, and groups rows by partition.

A key group is the high 12 bits of a hash. Partition ``p`` of ``n`` owns the
groups ``g`` with ``g * n >> 12 == p``: contiguous ranges that differ by at most
one group, so that a checkpoint of one number of ranks splits evenly on another.
"""

import numpy as np

from hpcstream.kernels.compiling import lean_njit
from hpcstream.kernels.hashing import mix_word

_GROUP_SHIFT = np.uint64(52)
_GROUP_BITS = np.uint64(12)
_ONE = np.uint64(1)


@lean_njit()
def _owner(key_hash, n_partitions):
    return ((key_hash >> _GROUP_SHIFT) * n_partitions) >> _GROUP_BITS


@lean_njit()
def partition_of_hashes(hashes, n_partitions, out_partitions):
    """Write the partition of each row.

    Parameters
    ----------
    hashes : uint64[n_rows]
    n_partitions : int64
        From 1 to 4096.
    out_partitions : uint16[n_rows]
    """
    factor = np.uint64(n_partitions)
    for row in range(hashes.shape[0]):
        out_partitions[row] = _owner(hashes[row], factor)


@lean_njit()
def partition_of_words(words, n_partitions, out_partitions):
    """Write the partition of each row from its key of one word.

    Parameters
    ----------
    words : int64[n_rows]
    n_partitions, out_partitions
        As for `partition_of_hashes`.
    """
    factor = np.uint64(n_partitions)
    for row in range(words.shape[0]):
        out_partitions[row] = _owner(mix_word(np.uint64(words[row])), factor)


@lean_njit()
def _order_in_two(partitions, out_order, out_offsets):
    # No array of cursors: they remain in registers.
    n_rows = partitions.shape[0]
    n_second = np.uint64(0)
    for row in range(n_rows):
        n_second += np.uint64(partitions[row])
    first = np.uint64(0)
    second = np.uint64(n_rows) - n_second
    out_offsets[0] = 0
    out_offsets[1] = second
    out_offsets[2] = n_rows
    for row in range(n_rows):
        owner = np.uint64(partitions[row])
        out_order[second if owner else first] = row
        second += owner
        first += _ONE - owner


@lean_njit()
def order_by_partition(partitions, n_partitions, out_order, out_offsets):
    """Group rows by partition.

    A stable counting sort: two passes over ``partitions``, no comparisons.

    Parameters
    ----------
    partitions : uint16[n_rows]
        Of each row; fewer than 2**31 rows.
    n_partitions : int64
        From 1 to 4096.
    out_order : int32[n_rows]
        Row numbers, grouped by partition, in arrival order within each.
    out_offsets : int64[n_partitions + 1]
        Partition ``p`` is ``out_order[out_offsets[p]:out_offsets[p + 1]]``.
    """
    n_rows = partitions.shape[0]
    if n_partitions == 2:
        _order_in_two(partitions, out_order, out_offsets)
        return
    # The start of a partition is stored one position after it, and advances to its end.
    out_offsets[:] = 0
    for row in range(n_rows):
        out_offsets[np.uint64(partitions[row]) + _ONE] += 1
    begin = np.int64(0)
    for partition in range(1, n_partitions + 1):
        n_here = out_offsets[partition]
        out_offsets[partition] = begin
        begin += n_here
    for row in range(n_rows):
        following = np.uint64(partitions[row]) + _ONE
        out_order[np.uint64(out_offsets[following])] = row
        out_offsets[following] += 1


def warm_up():
    """Compile what the engine calls: words may be Arrow's, read-only, or our own."""
    words = np.zeros(1, dtype=np.int64)
    partitions = np.empty(1, dtype=np.uint16)
    partition_of_words(words, 1, partitions)
    words.setflags(write=False)
    partition_of_words(words, 1, partitions)
    partition_of_hashes(np.zeros(1, dtype=np.uint64), 1, partitions)
    order_by_partition(partitions, 1, np.empty(1, dtype=np.int32), np.empty(2, dtype=np.int64))
