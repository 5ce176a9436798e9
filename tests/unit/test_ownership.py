"""The owner of a key is the owner of its key group, for the exchange and for restored state."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.columns.key_hash import hash_keys
from hpcstream.columns.ownership import N_KEY_GROUPS, Ownership, key_groups, owned_rows, owners
from hpcstream.exchange.partitioning import HashPartitioning

ALL_GROUPS = np.arange(N_KEY_GROUPS, dtype=np.uint16)
SIZES = st.integers(1, 40) | st.sampled_from([4095, 4096])
KEYS = st.lists(st.integers(-5, 500) | st.none(), max_size=40)


@pytest.fixture(autouse=True)
def wrapping_arithmetic():
    with np.errstate(over="ignore"):  # only without compilation: hashing means to wrap
        yield


@given(SIZES)
def test_every_group_has_one_owner_and_ranges_follow_one_another(n):
    ranges = [Ownership(instance, n).groups for instance in range(n)]
    assert [group for one in ranges for group in one] == list(range(N_KEY_GROUPS))
    assert max(map(len, ranges)) - min(map(len, ranges)) <= 1


@given(SIZES, st.data())
def test_owns_says_what_the_range_says(n, data):
    owned = Ownership(data.draw(st.integers(0, n - 1)), n)
    assert np.flatnonzero(owned.owns(ALL_GROUPS)).tolist() == list(owned.groups)


@given(KEYS, KEYS, SIZES, st.booleans())
def test_exchange_and_groups_agree_on_the_owner(keys, more, n, several):
    rows = min(len(keys), len(more))
    batch = pa.record_batch({"a": pa.array(keys[:rows], pa.int64()), "b": map(str, more[:rows])})
    columns = ("a", "b") if several else ("a",)
    groups = key_groups(batch, columns)
    npt.assert_array_equal(groups, hash_keys(batch, columns) >> np.uint64(52))
    order, offsets = HashPartitioning(columns).assign(batch, n, 0, 0)
    order = np.arange(rows) if order is None else order
    for instance in range(n) if n < 41 else (0, n // 2, n - 1):
        owned = Ownership(instance, n)
        mine = owned_rows(batch, columns, owned)
        npt.assert_array_equal(mine, np.flatnonzero(owned.owns(groups)))
        npt.assert_array_equal(mine, order[offsets[instance] : offsets[instance + 1]])
        assert (owners(batch, columns, n)[mine] == instance).all()
