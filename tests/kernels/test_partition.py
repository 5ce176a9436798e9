import naive_partition as naive
import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hpcstream.kernels import hashing, partition

HASHES = arrays(np.uint64, st.integers(0, 60))
N_PARTITIONS = st.integers(1, 9) | st.sampled_from([64, 1000, 4096])


def partitions_of(hashes, n_partitions):
    partitions = np.empty(len(hashes), dtype=np.uint16)
    partition.partition_of_hashes(hashes, n_partitions, partitions)
    return partitions


def partitioned(hashes, n_partitions):
    partitions = partitions_of(hashes, n_partitions)
    order = np.empty(len(hashes), dtype=np.int32)
    offsets = np.empty(n_partitions + 1, dtype=np.int64)
    partition.order_by_partition(partitions, n_partitions, order, offsets)
    return order, offsets


@given(HASHES, N_PARTITIONS)
def test_order_by_partition_matches_naive(hashes, n_partitions):
    order, offsets = partitioned(hashes, n_partitions)
    naive_order, naive_offsets = naive.partition_rows(hashes, n_partitions)
    npt.assert_array_equal(order, naive_order)
    npt.assert_array_equal(offsets, naive_offsets)


@given(HASHES, N_PARTITIONS)
def test_partition_of_hashes_matches_naive(hashes, n_partitions):
    expected = naive.partition_of_hashes(hashes, n_partitions)
    npt.assert_array_equal(partitions_of(hashes, n_partitions), expected)


@given(arrays(np.int64, st.integers(0, 60)), N_PARTITIONS)
def test_a_key_of_one_word_has_the_partition_of_its_hash(words, n_partitions):
    hashes = np.empty(len(words), dtype=np.uint64)
    hashing.hash_words(words, hashes)
    partitions = np.empty(len(words), dtype=np.uint16)
    partition.partition_of_words(words, n_partitions, partitions)
    npt.assert_array_equal(partitions, partitions_of(hashes, n_partitions))


@pytest.mark.parametrize("n_partitions", [1, 2, 3, 7, 1000, 4096])
def test_partitions_own_ranges_of_key_groups_that_differ_by_at_most_one(n_partitions):
    one_hash_a_group = np.arange(4096, dtype=np.uint64) << np.uint64(52)
    order, offsets = partitioned(one_hash_a_group, n_partitions)
    npt.assert_array_equal(order, np.arange(4096))
    assert np.ptp(np.diff(offsets)) <= 1


@pytest.mark.parametrize("n_partitions", [1, 2, 5])
def test_all_rows_may_belong_to_the_last_partition(n_partitions):
    hashes = np.full(17, 2**64 - 1, dtype=np.uint64)
    order, offsets = partitioned(hashes, n_partitions)
    npt.assert_array_equal(order, np.arange(17))
    npt.assert_array_equal(offsets, [0] * n_partitions + [17])
