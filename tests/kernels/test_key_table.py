"""`key_table` is tested through the store that owns its arrays: tests/unit/test_slice_store.py.

Here only what the store does not reach by itself.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from naive_key_table import NaiveSlices

from hpcstream.kernels import (
    key_bytes,
    key_lookup,
    key_regions,
    key_resolve,
    key_table,
    snapshots,
)
from hpcstream.state.arrays import HeapAllocator
from hpcstream.state.slices.store import SliceStore


@pytest.fixture(autouse=True, scope="module")
def _integers_wrap():
    """Without compilation NumPy warns of the wrapping that kernels want."""
    with np.errstate(over="ignore"):
        yield


def count_rows(times, keys, size):
    store = SliceStore(size, 0, (), HeapAllocator())
    times, keys = (np.array(column, dtype=np.int64) for column in (times, keys))
    for column in (times, keys):
        column.setflags(write=False)
    slots = store.resolve(times, keys)
    return store, slots


@given(
    data=st.data(),
    size=st.sampled_from([1, 7, 1000, 86_400_000_000_000, 2**55]),
    n_slices=st.sampled_from([1, 2, 3, 1024, 1025, 5000]),
)
def test_slices_are_right_on_both_sides_of_every_path(data, size, n_slices):
    # One slice, two, up to 1024 by reciprocal, more or larger ones by division.
    n_slices = min(n_slices, 2**62 // size - 2)
    edges = st.integers(0, n_slices).map(lambda number: number * size)
    near = st.builds(lambda edge, step: edge + step, edges, st.integers(-1, 1))
    times = data.draw(st.lists(near | st.integers(0, n_slices * size), min_size=1, max_size=30))
    keys = [time % 3 for time in times]
    model = NaiveSlices(size, 0)
    model.add(times, keys)

    store, slots = count_rows(times, keys, size)

    numbers, regions = store.slices_below(2**63)
    assert numbers.tolist() == sorted(model.slices)
    for number, region in zip(numbers.tolist(), regions, strict=True):
        entries, _ = store.slots_of(np.array([region]))
        assert store.keys_of(entries).tolist() == list(model.slices[number])
        assert store.rows[entries].tolist() == list(model.slices[number].values())
    assert len(slots) == len(times)


@pytest.mark.parametrize("word", [0, 1, -1, -3, 2**63 - 1, -(2**63)])
def test_a_hash_is_the_same_interpreted(word):
    with np.errstate(over="ignore"):  # it multiplies modulo 2**64
        assert key_table.mix(word) == key_table.mix.py_func(word)


def test_warm_up_compiles_every_kernel():
    key_table.warm_up()
    key_resolve.warm_up()
    key_lookup.warm_up()
    key_regions.warm_up()
    key_bytes.warm_up()
    snapshots.warm_up()
