import naive_keyed_table as naive
import numpy as np
import numpy.testing as npt
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.kernels import keyed_table

SIZE, CAPACITY = 16, 9  # at most 8 keys: many are not where they belong
KEYS = st.lists(st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(0, 30), max_size=8)
EMPTY = np.zeros(0, dtype=np.bool_)
EMPTY.setflags(write=False)


class Kernels:
    """The arrays of a small table, in the terms of its twin."""

    def __init__(self):
        self.book = np.zeros(keyed_table.N_FIELDS, dtype=np.int64)
        self.book[keyed_table.END], self.book[keyed_table.SHIFT] = 1, 60
        self.index, self.keys = np.zeros(2 * SIZE, np.int64), np.zeros(CAPACITY, np.int64)
        free, epochs = np.zeros(CAPACITY, np.uint32), np.zeros(1, np.int64)
        self.slots = (np.zeros(CAPACITY, np.uint8), free, epochs)

    def look_up(self, keys, kernel, *arrays):
        words = np.array([key or 0 for key in keys], dtype=np.int64)
        valid = np.array([key is not None for key in keys], dtype=np.bool_)
        for array in (words, valid):
            array.setflags(write=False)
        out = np.full(len(keys), 99, dtype=np.uint32)
        done = kernel(self.book, self.index, *arrays, words, EMPTY if valid.all() else valid, out)
        return done, out.tolist()

    def resolve(self, keys):
        return self.look_up(keys, keyed_table.resolve, self.keys, self.slots)

    def find(self, keys):
        return self.look_up(keys, keyed_table.find)[1]

    def release(self, slots):
        given_slots = np.array(slots, dtype=np.uint32)
        keyed_table.release(self.book, self.index, self.keys, self.slots, given_slots)


@given(st.lists(st.tuples(KEYS, st.integers(0, 2**8 - 1)), max_size=20))
def test_keys_come_and_go_in_a_crowded_table_as_in_a_dictionary(steps):
    kernels, twin, seen = Kernels(), naive.Table(), []
    for keys, gone in steps:
        done, slots = kernels.resolve(keys)
        assert slots[:done] == twin.resolve(keys[:done])
        assert done == len(keys) or len(twin.slots) == 8
        seen += keys
        assert kernels.find(seen) == twin.find(seen)
        slots = [slot for slot in twin.slots.values() if gone >> (slot - 1) & 1]
        kernels.release(slots)
        twin.release(slots)
        assert kernels.find(seen) == twin.find(seen)
        kernels.index[:] = 0
        keyed_table.fill_index(kernels.book, kernels.index, kernels.keys, kernels.slots[0])
        assert kernels.find(seen) == twin.find(seen)


@given(
    st.lists(
        st.tuples(st.lists(st.tuples(st.integers(1, 999), st.integers(0, 50))), st.integers(0, 50)),
        max_size=12,
    )
)
def test_slots_are_due_as_naive_says(steps):
    twin = naive.Table()
    due = np.full(1000, keyed_table.NEVER, dtype=np.int64)
    least = np.full(4, keyed_table.NEVER, dtype=np.int64)
    for pairs, watermark in steps:
        slots, times = (np.array([p[i] for p in pairs], dtype=np.int64) for i in (0, 1))
        earliest = keyed_table.set_due(due, least, slots.astype(np.uint32), times)
        assert earliest == min(times, default=keyed_table.NEVER)
        twin.set_due(slots.tolist(), times.tolist())
        found, out = [], np.empty(256, dtype=np.uint32)
        while True:
            n_found, earliest = keyed_table.find_expired(due, least, watermark, 1000, out)
            found += out[:n_found].tolist()
            if earliest >= watermark:
                break
        assert found == sorted(twin.expired(watermark)[0])
        due[found] = keyed_table.NEVER
        assert watermark <= earliest <= min(due)  # too early where a time was moved to later
        again = np.empty(4, dtype=np.int64)
        assert keyed_table.find_least(due, 1000, again) == min(due)
        npt.assert_array_equal(again, [due[i : i + 256].min() for i in range(0, 1000, 256)])
