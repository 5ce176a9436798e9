"""Entries of segments in the order of key groups."""

import numpy as np
import numpy.testing as npt
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.kernels import snapshots

segments = st.lists(st.lists(st.integers(0, 4095) | st.integers(0, 3), max_size=12), max_size=6)


@given(segments)
def test_each_segment_is_sorted_and_equal_groups_stay_in_order(found):
    groups = np.array([group for one in found for group in one], dtype=np.uint16)
    counts = np.array([len(one) for one in found], dtype=np.int64)
    places = np.empty(len(groups), dtype=np.uint32)

    snapshots.order_by_group(groups, counts, np.empty(4097, dtype=np.int64), places)

    expected = [np.argsort(np.array(one, np.int64), kind="stable") for one in found]
    npt.assert_array_equal(places, np.concatenate([np.zeros(0, np.int64), *expected]))
