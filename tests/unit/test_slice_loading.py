"""A store that was filled by a `SliceLoader` beside one whose entries were resolved."""

import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcstream.state.arrays import NO_NULLS, Word
from hpcstream.state.slices.loading import (
    NO_ORDER,
    KeyColumns,
    Outline,
    first_order,
    load_words,
)
from hpcstream.state.slices.store import SliceStore

WORDS = (Word("sum", "float64", 0.5), Word("sketch", "int64", -1, width=3))


@pytest.fixture(autouse=True, scope="module")
def wrapping_arithmetic():
    with np.errstate(over="ignore"):  # only without compilation: hashing means to wrap
        yield


class UsedMemory:
    """An allocator whose memory has been somebody else's."""

    def empty(self, n, dtype):
        kind = np.dtype(dtype)
        return np.full((n, *kind.shape), -1).astype(kind.base)


def new_store():
    return SliceStore(1, 0, WORDS, UsedMemory())


def read_only(values, dtype=np.int64):
    array = np.array(values, dtype=dtype)
    array.setflags(write=False)
    return array


def columns_of(entries):
    """Return the columns of [(key or None, rows)]."""
    keys = [0 if key is None else key for key, _ in entries]
    nulls = [key is None for key, _ in entries]
    rows = [rows for _, rows in entries]
    return KeyColumns(read_only(keys), read_only(nulls, np.bool_), read_only(rows))


def resolve(store, number, keys, rows):
    valid = read_only([key is not None for key in keys], np.bool_)
    words = read_only([0 if key is None else key for key in keys])
    times = read_only([number] * len(keys))
    validity = NO_NULLS if valid.all() else valid
    return store.resolve(times, words, validity, counts=read_only(rows)).copy()


def find(store, number, keys):
    words = read_only([0 if key is None else key for key in keys])
    valid = read_only([key is not None for key in keys], np.bool_)
    return store.find(read_only([number] * len(keys)), words, valid)


def contents(store):
    """Return {slice: {key or None: (rows, words)}}."""
    found = {}
    for number, region in zip(*(a.tolist() for a in store.slices_below(2**63)), strict=True):
        slots, nulls = store.slots_of(np.array([region]))
        nulls = np.zeros(len(slots), np.bool_) if nulls is None else nulls
        keys = [None if n else k for k, n in zip(store.keys_of(slots).tolist(), nulls, strict=True)]
        words = zip(*(array[slots].tolist() for array in store.words), strict=True)
        found[number] = dict(
            zip(keys, zip(store.rows[slots].tolist(), words, strict=True), strict=True)
        )
    return {number: entries for number, entries in found.items() if entries}


def filled(parts, chosen):
    """Return a store with the chosen ones of parts, each [(slice, [(key, rows)])]."""
    store = new_store()
    loader = store.loader()
    columns = [columns_of([entry for _, entries in part for entry in entries]) for part in parts]
    numbers = [np.array([number for number, _ in part], dtype=np.int64) for part in parts]
    counts = [np.array([len(entries) for _, entries in part], np.int64) for part in parts]
    loader.open(Outline.of_parts(numbers, counts), columns)
    for of_part, number, count, kept in zip(columns, numbers, counts, chosen, strict=True):
        order = read_only(np.flatnonzero(kept), np.uint32)
        ends = np.searchsorted(order, np.cumsum(count))
        slots = loader.load(number, np.diff(ends, prepend=0), of_part, order)
        sums = of_part.words * 2.0
        sketches = np.stack([of_part.rows, of_part.words, of_part.words + 1], axis=1)
        copies = sums, sketches.view(np.dtype((np.void, 24))).reshape(-1)
        for copy, array in zip(copies, store.words, strict=True):
            load_words(copy, order, slots, array)
    loader.index()
    return store


def expected_of(parts, chosen):
    expected = {}
    for part, kept in zip(parts, chosen, strict=True):
        flags = iter(kept)
        for number, entries in part:
            for key, rows in entries:
                if next(flags):
                    word = 0 if key is None else key
                    words = (word * 2.0, [rows, word, word + 1])
                    expected.setdefault(number, {})[key] = (rows, words)
    return expected


spread = st.integers(-(2**45), 2**45)  # hashed; the others are close, for direct tables
keys = st.none() | st.integers(-20, 60) | st.integers(10**6, 10**6 + 50) | spread


@st.composite
def parts_and_choices(draw):
    """Draw parts of which no two have a key of the same slice, and which entries are loaded."""
    kinds = draw(st.sampled_from([keys, st.integers(0, 300), st.none() | st.integers(5, 40)]))
    of_slices = st.dictionaries(st.integers(-5, 5), st.dictionaries(kinds, st.integers(0, 9)))
    n_parts = draw(st.integers(1, 3))
    parts = [[] for _ in range(n_parts)]
    for number, entries in draw(of_slices).items():
        listed = list(entries.items())
        for i, part in enumerate(parts):
            part.append((number, listed[i::n_parts]))
    sizes = [sum(len(entries) for _, entries in part) for part in parts]
    chosen = [draw(st.lists(st.booleans(), min_size=n, max_size=n)) for n in sizes]
    return parts, [[True] * len(one) for one in chosen] if draw(st.booleans()) else chosen


@settings(max_examples=150)
@given(found=parts_and_choices(), more=st.lists(keys, max_size=30))
def test_what_was_loaded_is_found_and_rows_go_on_to_be_added(found, more):
    parts, chosen = found
    store, expected = filled(parts, chosen), expected_of(parts, chosen)
    assert contents(store) == expected
    assert store.n_entries == sum(map(len, expected.values()))
    for number, entries in expected.items():
        slots = find(store, number, list(entries))
        assert store.rows[slots].tolist() == [rows for rows, _ in entries.values()]
        absent = [key for key in more if key not in entries]
        assert not find(store, number, absent).any()

    for number in [*expected, 77]:
        resolve(store, number, more, [1] * len(more))
        for key in more:
            new = (0, (0.5, [-1, -1, -1]))
            rows, words = expected.setdefault(number, {}).get(key, new)
            expected[number][key] = (rows + 1, words)
    assert contents(store) == {number: found for number, found in expected.items() if found}


@given(st.lists(st.lists(st.integers(0, 4095), max_size=20), max_size=5))
def test_the_first_order_is_that_of_positions(segments):
    order = [np.argsort(np.array(groups, np.int64), kind="stable") for groups in segments]
    positions = np.concatenate([np.zeros(0, np.int64), *order]).astype(np.uint32)
    counts = np.array([len(groups) for groups in segments], dtype=np.int64)

    found = first_order(positions, counts)

    starts = np.cumsum(counts) - counts
    expected = [start + np.argsort(one) for start, one in zip(starts, order, strict=True)]
    npt.assert_array_equal(found, np.concatenate([np.zeros(0, np.int64), *expected]))


def test_entries_as_they_are_need_no_order():
    store = new_store()
    columns = columns_of([(10**9 + 7 * i, i + 1) for i in range(40)])
    loader, numbers, counts = store.loader(), np.array([3]), np.array([40])
    loader.open(Outline.of_parts([numbers], [counts]), [columns])

    slots = loader.load(numbers, counts, columns, NO_ORDER)
    load_words(np.arange(40.0), NO_ORDER, slots, store.words[0])
    loader.index()

    assert find(store, 3, columns.words.tolist()).tolist() == slots.tolist()
    assert store.rows[slots].tolist() == list(range(1, 41))
    assert store.words[0][slots].tolist() == list(range(40))
