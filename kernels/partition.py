"""From hashes to key groups to partitions: which rows go where.

A key group is the high 12 bits of a hash. Partition ``p`` of ``n`` owns the
groups ``g`` with ``g * n >> 12 == p``: contiguous ranges that differ by at most
one group, so that a checkpoint of one number of ranks splits evenly on another.
"""

import numpy as np
from numba import njit

_GROUP_SHIFT = np.uint64(52)
_GROUP_BITS = np.uint64(12)
_TOP_BIT = np.uint64(63)
_ONE = np.uint64(1)


@njit(cache=True, nogil=True)
def _owner(key_hash, n_partitions):
    return np.int64(((key_hash >> _GROUP_SHIFT) * n_partitions) >> _GROUP_BITS)


@njit(cache=True, nogil=True)
def partition_of_hashes(hashes, n_partitions, out_partitions):
    """Give the partition of each row.

    Parameters
    ----------
    hashes : uint64[n_rows]
    n_partitions : int64
        From 1 to 4096.
    out_partitions : int32[n_rows]
    """
    factor = np.uint64(n_partitions)
    for row in range(hashes.shape[0]):
        out_partitions[row] = _owner(hashes[row], factor)


@njit(cache=True, nogil=True)
def _partition_in_two(hashes, out_order, out_offsets):
    # With two partitions the owner is the top bit of the hash: no table of cursors.
    n_rows = hashes.shape[0]
    n_second = np.uint64(0)
    for row in range(n_rows):
        n_second += hashes[row] >> _TOP_BIT
    first = np.uint64(0)
    second = np.uint64(n_rows) - n_second
    out_offsets[0] = 0
    out_offsets[1] = second
    out_offsets[2] = n_rows
    for row in range(n_rows):
        owner = hashes[row] >> _TOP_BIT
        out_order[second if owner else first] = row
        second += owner
        first += _ONE - owner


@njit(cache=True, nogil=True)
def partition_rows(hashes, n_partitions, out_order, out_offsets):
    """Order rows so that those of one partition lie together.

    A stable counting sort: two passes over ``hashes``, no comparisons.

    Parameters
    ----------
    hashes : uint64[n_rows]
        Key hash of each row; fewer than 2**31 rows.
    n_partitions : int64
        From 1 to 4096.
    out_order : int32[n_rows]
        Row numbers, grouped by partition, in arrival order within each.
    out_offsets : int64[n_partitions + 1]
        Partition ``p`` is ``out_order[out_offsets[p]:out_offsets[p + 1]]``.
    """
    n_rows = hashes.shape[0]
    if n_partitions == 2:
        _partition_in_two(hashes, out_order, out_offsets)
        return
    factor = np.uint64(n_partitions)
    out_offsets[:] = 0
    for row in range(n_rows):
        out_offsets[_owner(hashes[row], factor) + 1] += 1
    for partition in range(n_partitions):
        out_offsets[partition + 1] += out_offsets[partition]

    cursor = out_offsets[:-1].copy()
    for row in range(n_rows):
        partition = _owner(hashes[row], factor)
        out_order[cursor[partition]] = row
        cursor[partition] += 1


def warm_up():
    """Compile what the engine calls."""
    hashes = np.zeros(1, dtype=np.uint64)
    order = np.empty(1, dtype=np.int32)
    partition_of_hashes(hashes, 1, order)
    partition_rows(hashes, 1, order, np.empty(2, dtype=np.int64))
