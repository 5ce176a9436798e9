"""The slice store (and with it `kernels.key_table`) against dictionaries."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from naive_key_table import NaiveSlices

from hpcstream.columns.ownership import Ownership
from hpcstream.kernels import key_table
from hpcstream.operators.key_codec import WordKeys
from hpcstream.state.arrays import NO_NULLS, HeapAllocator, Word
from hpcstream.state.header import region_at
from hpcstream.state.slices.store import SliceStore
from hpcstream.state.slices.table import SliceTable
from hpcstream.state.table import Part, merge, snapshot


@pytest.fixture(autouse=True, scope="module")
def _integers_wrap():
    """Without compilation NumPy warns of the wrapping that kernels want."""
    with np.errstate(over="ignore"):
        yield


WORDS = (Word("sum", "float64", 0.5), Word("least", "int64", 99))


def read_only(values, dtype=np.int64):
    array = np.array(values, dtype=dtype)
    array.setflags(write=False)
    return array


def store_of(size=10, offset=0):
    return SliceStore(size, offset, WORDS, HeapAllocator())


def add(store, times, keys, **options):
    valid = [key is not None for key in keys]
    words = read_only([0 if key is None else key for key in keys])
    validity = NO_NULLS if all(valid) else read_only(valid, np.bool_)
    return store.resolve(read_only(times), words, validity, **options).copy()


def find(store, times, keys):
    valid = [key is not None for key in keys]
    words = read_only([0 if key is None else key for key in keys])
    validity = NO_NULLS if all(valid) else read_only(valid, np.bool_)
    return store.find(read_only(times), words, validity)


def contents(store):
    """Return {slice: {key: rows}} in slice and entry order."""
    found = {}
    numbers, regions = store.slices_below(2**63)
    for number, region in zip(numbers.tolist(), regions, strict=True):
        slots, is_null = store.slots_of(np.array([region]))
        nulls = np.zeros(len(slots), dtype=bool) if is_null is None else is_null
        keys = [
            None if null else key
            for key, null in zip(store.keys_of(slots).tolist(), nulls, strict=True)
        ]
        found[number] = dict(zip(keys, store.rows[slots].tolist(), strict=True))
    return found


def table_of(store):
    """Return the store as a table of entries by key groups."""
    return SliceTable(store, WordKeys("key", pa.int64()), lambda slots, parts: None)


class UsedMemory:
    """An allocator whose memory has been somebody else's."""

    def empty(self, n, dtype):
        return np.full(n, -1).astype(dtype)


def test_the_slot_of_late_rows_is_like_new_however_memory_moves():
    store = SliceStore(10, 0, WORDS, UsedMemory())
    for step in range(4):
        add(store, [10 * step] * 3000, range(3000))
        assert (store.words[0][0], store.words[1][0]) == (0.5, 99)
        store.words[0][0] = -1.0  # a late row came
        store.pack()
        assert (store.words[0][0], store.words[1][0], store.rows[0]) == (0.5, 99, 0)


def dense_keys(store, number):
    """Return whether a slice has a slot for a key from the beginning: those come first."""
    at = region_at(store.region_of(number))
    fields = (key_table.LOW, key_table.WIDTH)
    low, width = (int(store.arenas.header[at + field]) for field in fields)
    return lambda key: key is not None and low <= key < low + width


some_keys = st.none() | st.integers(-3, 3) | st.integers(-(2**63), 2**63 - 1)
some_times = st.integers(-50, 50) | st.integers(-(2**61), 2**61)


class StoreMachine(RuleBasedStateMachine):
    """Any sequence of batches, closings, packings and restarts."""

    def __init__(self):
        super().__init__()
        self.store, self.model = store_of(7, 3), NaiveSlices(7, 3)
        self.sums = {}

    @rule(
        rows=st.lists(st.tuples(some_times, some_keys), max_size=60),
        first=st.none() | st.integers(-5, 5),
    )
    def add(self, rows, first):
        times, keys = [t for t, _ in rows], [k for _, k in rows]
        slots = add(self.store, times, keys, first_open=-(2**63) if first is None else first)
        late = self.model.add(times, keys, first)
        assert (slots == 0).tolist() == late
        assert self.store.n_late == sum(late)
        for slot, time, key, is_late in zip(slots, times, keys, late, strict=True):
            if not is_late:
                entry = ((time - 3) // 7, key)
                before = self.sums.get(entry, 0.5)
                assert self.store.words[0][slot] == before
                self.store.words[0][slot] += 1.0
                self.sums[entry] = before + 1.0

    @rule(rows=st.lists(st.tuples(some_times, some_keys), max_size=60), data=st.data())
    def find(self, rows, data):
        for number, counts in self.model.slices.items():  # mostly what is there, or beside it
            times = st.integers(7 * number + 3, 7 * number + 9)
            known = st.sampled_from([*counts, None, 0])
            rows = rows + data.draw(st.lists(st.tuples(times, known), max_size=5))
        found = find(self.store, [t for t, _ in rows], [k for _, k in rows])
        expected = self.model.find([t for t, _ in rows], [k for _, k in rows])
        assert [slot != 0 for slot in found] == [number is not None for number in expected]
        for slot, number, (_, key) in zip(found, expected, rows, strict=True):
            if slot:
                assert self.store.rows[slot] == self.model.slices[number][key]
                assert self.store.words[0][slot] == self.sums[number, key]
                assert key in (None, self.store.keys_of(found[found == slot])[0])

    @rule(data=st.data())
    def clear(self, data):
        if not self.model.slices:
            return
        number = data.draw(st.sampled_from(sorted(self.model.slices)))
        keys = data.draw(st.lists(st.sampled_from([*self.model.slices[number], None, 0])))
        slots = find(self.store, [7 * number + 3] * len(keys), keys)
        region = self.store.region_of(number)
        before = self.store.versions(np.array([region]))
        self.store.clear(region, slots)
        assert self.store.versions(np.array([region])) != before
        keys = [key for key, slot in zip(keys, slots, strict=True) if slot]
        self.model.clear(number, keys, dense_keys(self.store, number))
        for key in keys:
            self.sums.pop((number, key), None)

    @rule(limit=st.integers(-6, 6))
    def close(self, limit):
        numbers, regions = self.store.slices_below(limit)
        assert numbers.tolist() == sorted(n for n in self.model.slices if n < limit)
        self.store.close(regions)
        self.store.forget_below(limit)
        for number in numbers.tolist():
            self.model.slices.pop(number)
        self.sums = {entry: s for entry, s in self.sums.items() if entry[0] >= limit}

    @rule()
    def pack(self):
        self.store.pack()

    @rule()
    def restart(self):
        arrays = snapshot([table_of(self.store)])
        self.store = store_of(7, 3)
        table_of(self.store).restore(arrays)

    @rule()
    def copies_are_what_slots_say(self):
        store = self.store
        numbers, regions = store.slices_below(2**63)
        slots, is_null = store.slots_of(regions)
        found = store.copies_of(regions)
        assert np.array_equal(found["keys"], store.keys_of(slots))
        assert np.array_equal(found["rows"], store.rows[slots])
        assert np.array_equal(found["word:sum"], store.words[0][slots])
        assert found["is_null"].tolist() == ([0] * len(slots) if is_null is None else [*is_null])
        totals = [sum(self.model.slices[number].values()) for number in numbers.tolist()]
        assert store.rows_of(regions).tolist() == totals

    @invariant()
    def holds_what_the_model_holds(self):
        found = contents(self.store)
        assert found == self.model.slices
        assert list(found) == sorted(self.model.slices)
        for number, counts in found.items():
            dense = dense_keys(self.store, number)
            keys = list(self.model.slices[number])
            assert list(counts) == sorted(filter(dense, keys)) + [k for k in keys if not dense(k)]
        assert self.store.n_entries == sum(map(len, self.model.slices.values()))


StoreMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
TestStore = StoreMachine.TestCase


@given(first=st.lists(some_keys, max_size=40), second=st.lists(some_keys, max_size=40))
@example(first=[0, 1, -1, 2, -2, 3, -3, -4092, None, 4], second=[4])  # the null enlarges the index
def test_merged_slices_hold_the_keys_of_both(first, second):
    store = store_of()
    add(store, [0] * len(first) + [10] * len(second), first + second)
    regions = [store.region_of(0), store.region_of(1)]
    assume(first or second)
    merged = store.open_merged(np.array([region for region in regions if region is not None]))
    expected = {}
    for region, keys in zip(regions, (first, second), strict=True):
        for key in keys:
            expected[key] = expected.get(key, 0) + 1
        if region is not None:
            for source, slots in store.merge(merged, region):
                keys_of_both = [store.keys_of(np.array(places)) for places in (source, slots)]
                assert keys_of_both[0].tolist() == keys_of_both[1].tolist()

    slots, is_null = store.slots_of(np.array([merged]))

    nulls = np.zeros(len(slots), dtype=bool) if is_null is None else is_null
    keys = [None if n else k for k, n in zip(store.keys_of(slots).tolist(), nulls, strict=True)]
    assert dict(zip(keys, store.rows[slots].tolist(), strict=True)) == expected
    assert (store.words[0][slots] == 0.5).all()
    store.close(np.array([merged]))
    assert set(contents(store)) == {n for n, keys in enumerate((first, second)) if keys}


def test_sixty_thousand_slices_in_one_batch_cost_no_python_time_each():
    n_rows = 60_000
    store = store_of()
    slots = add(store, [i * 10 for i in range(n_rows)], [7] * n_rows)

    assert store.n_slices == n_rows
    assert len(set(slots.tolist())) == n_rows
    assert store.slices_below(2**63)[0].tolist() == list(range(n_rows))


def test_memory_follows_open_entries_over_many_distinct_keys():
    store = store_of()
    n_rows, sizes = 50_000, []
    for number in range(60):
        times = read_only(np.full(n_rows, 10 * number))
        keys = read_only(np.arange(n_rows) + n_rows * number)
        store.resolve(times, keys)
        store.close(store.slices_below(number)[1])
        store.forget_below(number)
        sizes.append(store.n_bytes)
    assert store.n_entries == n_rows
    assert max(sizes[20:]) <= max(sizes[:20])


def test_slices_of_about_one_size_take_one_anothers_place():
    store = store_of(size=1)
    rng = np.random.default_rng(8)
    ends = []
    for number in range(40):
        n_keys = 50_000 + int(rng.integers(-1_000, 1_000))
        keys = read_only(rng.permutation(n_keys) * 1_000_003)
        store.resolve(read_only(np.full(n_keys, number)), keys)
        store.close(store.slices_below(number - 2)[1])
        ends.append(store.slots_end)

    assert max(ends) < 5 * 52_000  # four are open at a time


def test_slots_are_like_new_when_they_are_given_out():
    store = store_of(size=1)
    for number in range(12):
        n_keys = 3_000 << (number % 4)
        keys = read_only(np.arange(n_keys) * 1_000_003)
        slots = store.resolve(read_only(np.full(n_keys, number)), keys)

        assert (store.rows[slots] == 1).all()
        assert (store.words[0][slots] == 0.5).all()
        assert (store.words[1][slots] == 99).all()
        store.words[0][slots] = 7.0
        store.words[1][slots] = 7
        store.close(store.slices_below(number)[1])


def test_colliding_and_adversarial_keys_are_told_apart():
    keys = [k << shift for shift in (0, 16, 32, 48) for k in range(500)]
    store = store_of()

    slots = add(store, [0] * len(keys), keys)

    assert store.keys_of(slots).tolist() == keys
    assert store.n_entries == len(set(keys))


def test_a_time_out_of_range_is_refused_by_name():
    with pytest.raises(ValueError, match=r"event times from .* outside"):
        add(store_of(), [2**63 - 5], [1])


def test_packing_tells_where_entries_went():
    store, moved, order = store_of(), [], []
    store.on_move(lambda old, end: moved.append((old.copy(), end)))
    store.on_move(lambda old, end: order.append(len(moved)))
    slots = add(store, [0, 10, 20], [5, 6, 7])
    store.close(store.slices_below(1)[1])
    keys = {int(slot): int(key) for slot, key in zip(slots, [5, 6, 7], strict=True)}

    store.pack()

    [(old, end)] = moved
    assert order == [1]  # listeners are called in their order
    assert end > old.max()
    assert [keys[int(slot)] for slot in old] == store.keys_of(np.arange(1, len(old) + 1)).tolist()


def test_cleared_entries_do_not_go_to_other_instances():
    parts = store_of()
    add(parts, [0, 1, 2, 10], [5, 6, None, 7])
    parts.clear(parts.region_of(0), find(parts, [0, 0], [5, None]))
    arrays = snapshot([table_of(parts)])
    merged = store_of()

    merge([table_of(merged)], [Part(False, arrays)], Ownership(0, 1))

    assert contents(parts) == {0: {5: 0, 6: 1, None: 0}, 1: {7: 1}}
    assert contents(merged) == {0: {6: 1}, 1: {7: 1}}


def test_entries_of_a_wide_word_are_cleared():
    store = SliceStore(10, 0, (Word("sketch", "int64", 3, width=4),), HeapAllocator())
    slots = add(store, [0, 0, 0], [5, 6, None])
    store.words[0][slots] = [[1] * 4, [2] * 4, [4] * 4]

    store.clear(store.region_of(0), slots[[0, 2]])

    assert store.words[0][slots].tolist() == [[3] * 4, [2] * 4, [3] * 4]
    assert find(store, [0, 0, 0], [5, 6, None]).tolist() == [0, slots[1], 0]
