"""When slices need no hashing, and that they hold the same entries either way."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from naive_key_table import NaiveSlices

from hpcstream.kernels import key_table
from hpcstream.state.arrays import HeapAllocator
from hpcstream.state.slices.backoff import Backoff
from hpcstream.state.slices.direct_keys import direct_layout
from hpcstream.state.slices.store import SliceStore


@pytest.fixture(autouse=True, scope="module")
def _integers_wrap():
    """Without compilation NumPy warns of the wrapping that kernels want."""
    with np.errstate(over="ignore"):
        yield


def is_direct(store):
    return store.arenas.header[key_table.DIRECT_BITS] > 0


def add(store, model, times, keys):
    columns = [np.array(column, dtype=np.int64) for column in (times, keys)]
    for column in columns:
        column.setflags(write=False)
    store.resolve(*columns)
    model.add(list(times), [int(key) for key in keys])


def assert_holds(store, model):
    numbers, regions = store.slices_below(2**63)
    assert numbers.tolist() == sorted(model.slices)
    for number, region in zip(numbers.tolist(), regions, strict=True):
        slots, _ = store.slots_of(np.array([region]))
        found = dict(zip(store.keys_of(slots).tolist(), store.rows[slots].tolist(), strict=True))
        assert found == model.slices[number]


@given(low=st.integers(-(2**63), 2**63 - 1), span=st.integers(0, 2**20), n=st.integers(0, 2**20))
def test_a_layout_covers_its_keys_with_few_places_for_each_entry(low, span, n):
    high = min(low + span, 2**63 - 1)
    layout = direct_layout(low, high, 3, n)
    if layout is not None:
        first, bits = layout
        assert -(2**63) <= first <= low <= high < first + (1 << bits)
        assert 3 << bits <= 8 * n + 4096
    else:
        assert 3 * 2 * (high - low + 1) > 8 * n + 4096


def test_no_keys_have_no_layout():
    assert direct_layout(5, 4, 1, 100) is None


@pytest.mark.parametrize("low", [0, -5_000, 2**62, -(2**63), 2**63 - 2_000])
def test_close_keys_are_direct_until_one_is_far_away(low):
    store, model = SliceStore(10, 0, (), HeapAllocator()), NaiveSlices(10, 0)
    keys = low + np.random.default_rng(7).permutation(2_000)
    add(store, model, [0] * 2_000 + [13] * 2_000, [*keys, *keys[::-1]])
    assert is_direct(store)
    assert_holds(store, model)

    far = low - 2**40 if low > 0 else low + 2**40
    add(store, model, [1, 2, 14], [keys[0], far, keys[1]])
    assert not is_direct(store)
    assert_holds(store, model)


def test_wider_keys_widen_a_direct_table():
    store, model = SliceStore(10, 0, (), HeapAllocator()), NaiveSlices(10, 0)
    for end in (1_000, 2_000, 5_000):
        add(store, model, [0] * end, range(end))
        assert is_direct(store)
        assert_holds(store, model)


def test_scattered_keys_are_looked_at_ever_more_rarely():
    backoff, looks = Backoff(), []
    for closed in range(100):
        if backoff.due(1):
            looks.append(closed)
            backoff.failed()
    assert looks == [0, 1, 4, 11, 26, 57]
