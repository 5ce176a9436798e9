"""When slices have a slot for every key, and that nothing else is different then."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcstream.kernels import key_table
from hpcstream.operators.key_codec import NoKeys
from hpcstream.state.arrays import NO_NULLS, HeapAllocator, Word
from hpcstream.state.slices.dense_range import DenseRange
from hpcstream.state.slices.store import SliceStore
from hpcstream.state.slices.table import SliceTable
from hpcstream.state.table import snapshot

WORDS = (Word("greatest", "int64", -1),)


@pytest.fixture(autouse=True, scope="module")
def _integers_wrap():
    """Without compilation NumPy warns of the wrapping that kernels want."""
    with np.errstate(over="ignore"):
        yield


def read_only(values, dtype=np.int64):
    array = np.array(values, dtype=dtype)
    array.setflags(write=False)
    return array


def add(store, times, keys):
    """Add rows; their largest time is the word of an entry."""
    valid = [key is not None for key in keys]
    validity = NO_NULLS if all(valid) else read_only(valid, np.bool_)
    slots = store.resolve(read_only(times), read_only([key or 0 for key in keys]), validity)
    np.maximum.at(store.words[0], slots, times)


def entries(store, region):
    """Return [(key, rows, word)] of a region, in order."""
    slots, is_null = store.slots_of(np.array([region]))
    nulls = [False] * len(slots) if is_null is None else is_null.tolist()
    found = (store.keys_of(slots), store.rows[slots], store.words[0][slots])
    columns = zip(nulls, *(column.tolist() for column in found), strict=True)
    return [(None if null else key, rows, word) for null, key, rows, word in columns]


def contents(store):
    numbers, regions = store.slices_below(2**63)
    return {n: entries(store, r) for n, r in zip(numbers.tolist(), regions, strict=True)}


def expected(rows, dense):
    """Return what `contents` should be: in a dense slice, keys of the range come first."""
    slices = {}
    for time, key in rows:
        entry = slices.setdefault(time // 10, {}).setdefault(key, [0, -1])
        entry[:] = entry[0] + 1, max(entry[1], time)
    ordered = {}
    for number, slice_ in slices.items():
        inside = sorted(
            k for k in slice_ if k is not None and number in dense and k in dense[number]
        )
        keys = inside + [key for key in slice_ if key not in inside]
        ordered[number] = [(key, *slice_[key]) for key in keys]
    return ordered


def dense_ranges(store):
    numbers, regions = store.slices_below(2**63)
    fields = [store.fields(regions, f).tolist() for f in (key_table.LOW, key_table.WIDTH)]
    found = zip(numbers.tolist(), *fields, strict=True)
    return {n: range(low, low + width) for n, low, width in found if width}


def store_with_dense_slices(low=0, n_keys=40):
    """Return a store whose next slices, from 1 on, are dense for about these keys."""
    store = SliceStore(10, 0, WORDS, HeapAllocator())
    add(store, [0] * n_keys, range(low, low + n_keys))
    store.close(store.slices_below(1)[1])
    store.forget_below(1)
    assert store.dense_range.width >= n_keys
    return store


keys = st.none() | st.integers(0, 45) | st.integers(-3, 200) | st.integers(-(2**63), 2**63 - 1)
rows = st.tuples(st.integers(10, 60), keys)


@given(batches=st.lists(st.lists(rows, max_size=40), max_size=6))
def test_dense_slices_hold_what_others_hold(batches):
    store = store_with_dense_slices()
    for batch in batches:
        if batch:
            add(store, *zip(*batch, strict=True))
    dense = dense_ranges(store)
    assert contents(store) == expected([row for batch in batches for row in batch], dense)
    assert store.n_entries == sum(len(one) for one in contents(store).values())


@given(batch=st.lists(rows, min_size=1, max_size=80), cleared=st.sets(keys))
def test_entries_are_found_and_cleared_in_dense_slices_too(batch, cleared):
    store = store_with_dense_slices()
    add(store, *zip(*batch, strict=True))
    for number, region in zip(*(a.tolist() for a in store.slices_below(2**63)), strict=True):
        wanted = [key for key, _, _ in entries(store, region)] + sorted(cleared - {None})
        words = read_only([key or 0 for key in wanted])
        valid = read_only([key is not None for key in wanted], np.bool_)
        slots = store.find(read_only([10 * number] * len(wanted)), words, valid)
        known = {key: (n_rows, word) for key, n_rows, word in entries(store, region)}
        found = zip(store.rows[slots].tolist(), store.words[0][slots].tolist(), strict=True)
        assert [f if s else None for f, s in zip(found, slots, strict=True)] == [
            known.get(key) for key in wanted
        ]
        store.clear(region, slots[[key in cleared for key in wanted]])
    left = [row for row in batch if row[1] not in cleared]
    with_rows = {n: [e for e in of if e[1]] for n, of in contents(store).items()}
    assert {n: of for n, of in with_rows.items() if of} == expected(left, dense_ranges(store))
    add(store, *zip(*batch, strict=True))  # again, over what was cleared
    assert sum(n for of in contents(store).values() for _, n, _ in of) == len(batch) + len(left)
    assert store.n_entries == sum(len(of) for of in contents(store).values())
    store.close(store.slices_below(2**63)[1])
    assert (store.n_entries, int(store.arenas.header[key_table.DENSE_LIVE])) == (0, 0)


@given(batch=st.lists(rows, min_size=1, max_size=80), rest=st.lists(rows, min_size=1, max_size=40))
@settings(max_examples=50)
def test_a_restored_store_goes_on_in_the_same_order(batch, rest):
    store, again = store_with_dense_slices(), SliceStore(10, 0, WORDS, HeapAllocator())
    add(store, *zip(*batch, strict=True))
    tables = [SliceTable(one, NoKeys(), lambda slots, parts: None) for one in (store, again)]
    tables[1].restore(snapshot(tables[:1]))
    for one in (store, again):
        add(one, *zip(*rest, strict=True))
        one.pack()
    assert contents(again) == contents(store) == expected(batch + rest, dense_ranges(store))
    assert again.dense_range.snapshot().tolist() == store.dense_range.snapshot().tolist()


@given(
    first=st.lists(keys, max_size=60), second=st.lists(keys, max_size=60), is_dense=st.booleans()
)
def test_merged_slices_hold_what_both_hold(first, second, is_dense):
    store = store_with_dense_slices()
    if not is_dense:  # and one of the others is
        add(store, [10], [1])
        store.dense_range.forget()
        store._layout.announce_dense()
    batch = [(10, key) for key in [1, *first]] + [(20, key) for key in [2, *second]]
    add(store, *zip(*batch, strict=True))
    regions = [store.region_of(1), store.region_of(2)]
    merged = store.open_merged(np.array(regions))
    for region in regions:
        for source, slots in store.merge(merged, region):
            parts = store.words[0][np.array(source)]
            np.maximum.at(store.words[0], np.array(slots), parts)

    found = entries(store, merged)
    together = {}
    for key, n_rows, word in [*entries(store, regions[0]), *entries(store, regions[1])]:
        entry = together.setdefault(key, [0, -1])
        entry[:] = entry[0] + n_rows, max(entry[1], word)
    assert {key: [n, word] for key, n, word in found} == together
    assert len(found) == len(together)
    if not is_dense:
        assert [key for key, _, _ in found] == list(together)
    store.close(np.array([merged]))
    assert store.n_entries == sum(len(one) for one in contents(store).values())


def test_a_closed_dense_slice_leaves_its_slots_like_new_to_another_range():
    store = store_with_dense_slices(low=0)
    for number, low in enumerate([0, 0, 1000, 1000, 1000, 1000, 7, 7, 7, 7], start=1):
        add(store, [10 * number + 1] * 30, range(low, low + 30))
        assert contents(store)[number] == [
            (key, 1, 10 * number + 1) for key in range(low, low + 30)
        ]
        store.close(store.slices_below(number + 1)[1])
        store.forget_below(number + 1)
    assert store.n_entries == 0


def test_slices_of_few_rows_are_not_dense_however_many_there_are():
    store = store_with_dense_slices(n_keys=20_000)
    n_slices = 3_000
    add(store, [10 * number + 10 for number in range(n_slices)], [5] * n_slices)
    assert len(dense_ranges(store)) < 20
    assert store.n_bytes < 50_000_000


def test_renamed_keys_end_it():
    store = store_with_dense_slices()
    add(store, [10] * 10 + [20], [*range(10), 3])
    assert dense_ranges(store)
    assert sorted(set(store.live_keys().tolist())) == list(range(10))
    store.replace_keys(read_only(list(range(100, 110)) + [0] * 40))
    assert not dense_ranges(store)
    add(store, [10, 21], [100, 100])
    assert [key for key, _, _ in contents(store)[1]] == list(range(100, 110))
    assert contents(store)[2] == [(103, 1, 20), (100, 1, 21)]


@given(
    low=st.integers(-(2**63), 2**63 - 1),
    span=st.integers(0, 3000) | st.integers(0, 2**40),
    n_entries=st.integers(1, 3000),
)
def test_a_range_covers_its_keys_with_few_slots_for_each_entry(low, span, n_entries):
    high = min(low + span, 2**63 - 1)
    chosen = DenseRange()
    chosen.look(low, high, n_entries)
    if chosen.width:
        assert -(2**63) <= chosen.low <= low <= high < chosen.low + chosen.width <= 2**63
        assert chosen.width <= 4 * n_entries
    else:
        assert (high - low + 1) * 2 > 4 * n_entries


@pytest.mark.parametrize(("n_dense", "n_others"), [(4, 0), (40, 6)])
def test_slices_that_are_too_empty_or_have_many_other_keys_end_a_range(n_dense, n_others):
    chosen = DenseRange()
    chosen.look(0, 39, 40)
    chosen.note_dense(np.array([40]), np.array([40]), np.array([5]))
    assert chosen.width == 40
    chosen.note_dense(np.array([40]), np.array([n_dense]), np.array([n_others]))
    assert chosen.width == 0
    assert not chosen.wants_look(0)
    assert chosen.wants_look(1)
