"""A slot for each key: found, made, forgotten, due, and dealt again, as a dictionary says."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.columns.ownership import Ownership, word_groups
from hpcstream.operators.key_codec import WordKeys
from hpcstream.state import table
from hpcstream.state.arrays import NO_NULLS, HeapAllocator, Word, read_only
from hpcstream.state.keyed.store import BLOCK_SLOTS, NEVER, KeyedState
from hpcstream.state.keyed.table import KeyedTable
from hpcstream.state.table import Part

sys.path.insert(0, str(Path(__file__).parents[2] / "kernels"))
from naive_keyed_table import Table

WORDS = (Word("total", "float64", 0.0), Word("least", "int64", 7), Word("ring", "int64", -1, 3))
KEYS = st.lists(st.none() | st.integers(-3, 9) | st.sampled_from([2**62, -(2**63), 2**40]))


def as_arrays(keys):
    words = read_only(np.array([0 if key is None else key for key in keys], dtype=np.int64))
    valid = np.array([key is not None for key in keys], dtype=np.bool_)
    return words, NO_NULLS if valid.all() else read_only(valid)


class Kept:
    """A `KeyedState` beside a `Table` and the words that its keys should have."""

    def __init__(self):
        self.state, self.naive, self.values = new_state(), Table(), {}

    def add(self, keys, amount):
        slots = self.state.resolve(*as_arrays(keys))
        assert slots.tolist() == self.naive.resolve(keys)
        for key, slot in zip(keys, slots, strict=True):
            total, least, ring = self.state.words
            total[slot] += amount
            least[slot] = min(least[slot], amount)
            ring[slot] = np.roll(ring[slot], 1)
            ring[slot, 0] = amount
            before = self.values.get(key, (0.0, 7, (-1, -1, -1)))
            self.values[key] = (
                before[0] + amount, min(before[1], amount), (amount, *before[2][:2]),
            )  # fmt: skip
        return slots

    def forget(self, keys):
        keys = [key for key in dict.fromkeys(keys) if key in self.values]
        slots = self.state.find(*as_arrays(keys))
        self.state.free(slots)
        self.naive.release(slots.tolist())
        for key in keys:
            del self.values[key]

    def check(self):
        assert values_of(self.state) == self.values
        assert self.state.n_keys == len(self.values)
        every = [None, *range(-4, 11), 2**62, -(2**63)]
        assert self.state.find(*as_arrays(every)).tolist() == self.naive.find(every)


def new_state():
    return KeyedState(WORDS, HeapAllocator())


def new_table(state):
    return KeyedTable(state, WordKeys("key", pa.int64()))


def values_of(state):
    slots = state.live_slots()
    keys = np.where(state.is_null(slots), None, state.keys[slots].astype(object))
    total, least, ring = (array[slots].tolist() for array in state.words)
    found = zip(total, least, map(tuple, ring), strict=True)
    return dict(zip(keys.tolist(), found, strict=True))


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["add", "forget"]), KEYS, st.integers(-9, 9))
    | st.tuples(st.just("due"), KEYS, st.integers(0, 40))
    | st.tuples(st.just("expired"), st.just([]), st.integers(0, 40))
    | st.tuples(st.just("restart"), st.just([]), st.just(0)),
    max_size=25,
)


@given(ACTIONS)
def test_keyed_state_is_as_a_dictionary_and_the_same_to_the_slot_from_a_snapshot(actions):
    kept = Kept()
    for what, keys, number in actions:
        if what == "add":
            kept.add(keys, number)
        elif what == "forget":
            kept.forget(keys)
        elif what == "due":
            slots = kept.add(keys, number)
            times = number + np.arange(len(slots))
            kept.state.set_due(slots, times)
            kept.naive.set_due(slots.tolist(), times.tolist())
        elif what == "expired":
            slots, times = kept.state.expired(number)
            assert (slots.tolist(), times.tolist()) == kept.naive.expired(number)
        else:
            snapshot = table.snapshot([new_table(kept.state)])
            kept.state = new_state()
            table.restore([new_table(kept.state)], snapshot)
        kept.check()


@given(KEYS, KEYS, st.integers(1, 3))
def test_keys_are_assigned_to_their_owners_with_words_and_due_times(keys, forgotten, n_instances):
    kept = Kept()
    slots = kept.add(keys, 5)
    kept.state.set_due(slots, np.arange(len(keys)))
    kept.forget(forgotten)
    parts = [Part(is_local=False, arrays=table.snapshot([new_table(kept.state)]))]
    found, due = {}, {}
    for instance in range(n_instances):
        owned, state = Ownership(instance, n_instances), new_state()
        one = new_table(state)
        one.merge(parts, owned)
        for key, value in values_of(state).items():
            is_null = np.array([key is None])
            groups = word_groups(np.array([key or 0], dtype=np.int64), is_null)
            assert owned.owns(groups).all()
            assert key not in found
            found[key] = value
        old = kept.state.live_slots()
        new = one.new_slots(0, old)
        assert np.array_equal(np.sort(new[new != 0]), state.live_slots())
        due |= dict(zip(old[new != 0].tolist(), state.due[new[new != 0]].tolist(), strict=True))
    assert found == kept.values
    assert due == {slot: kept.state.due[slot] for slot in kept.state.live_slots().tolist()}


def numbers(start, stop):
    return read_only(np.arange(start, stop, dtype=np.int64))


def test_a_block_that_nobody_touched_is_not_written_again():
    state = new_state()
    one = new_table(state)
    state.resolve(numbers(0, 3 * BLOCK_SLOTS))
    before = one.segments()
    assert [segment.n_entries for segment in before] == [BLOCK_SLOTS - 1, *[BLOCK_SLOTS] * 2, 1]
    one.copy(np.arange(4))
    assert one.segments() == before

    state.resolve(numbers(BLOCK_SLOTS + 5, BLOCK_SLOTS + 6))
    changed = [new != old for new, old in zip(one.segments(), before, strict=True)]
    assert changed == [False, True, False, False]
    one.copy(np.array([1]))
    state.set_due(np.array([5], dtype=np.uint32), np.array([3]))
    before = one.segments()
    one.copy(np.array([0]))
    state.expired(4)
    state.free(np.array([3 * BLOCK_SLOTS], dtype=np.uint32))
    changed = [new != old for new, old in zip(one.segments(), before, strict=True)]
    assert changed == [True, False, False, True]


def test_what_many_keys_took_is_given_back_when_they_are_gone():
    state, moved = new_state(), []
    state.on_move.append(moved.append)
    state.resolve(numbers(0, 100_000))
    most = state.n_bytes
    slots = state.find(numbers(0, 99_000))
    state.set_due(state.find(numbers(99_000, 99_010)), np.arange(10))
    state.free(slots)
    assert state.n_bytes == most

    state.resolve(numbers(99_500, 99_501))
    assert state.n_keys == 1000
    assert state.n_bytes < most / 30
    assert state.slots_end == 1001
    assert len(moved) == 1
    slots, times = state.expired(99)
    assert (state.keys[slots] - 99_000).tolist() == times.tolist() == list(range(10))


@pytest.mark.parametrize("n_due", [5, 200_000])
def test_any_number_of_keys_is_due_at_once(n_due):
    state = new_state()
    slots = state.resolve(numbers(0, 200_000))
    times = np.random.default_rng(1).permutation(200_000)
    state.set_due(slots, times)

    found, at = state.expired(n_due)

    assert at.tolist() == list(range(n_due))
    assert np.array_equal(times[found - 1], at)
    assert (state.due[found] == NEVER).all()
    assert len(state.expired(n_due)[0]) == 0
    assert state.expired(n_due + 1)[1].tolist() == [n_due][: 200_000 - n_due]


def test_keys_are_replaced_where_they_lie():
    state = new_state()
    slots = state.resolve(numbers(0, 10))
    state.free(slots[:5])
    state.replace_keys(np.maximum(np.arange(10) - 5, 0))
    assert state.find(numbers(0, 6)).tolist() == [6, 7, 8, 9, 10, 0]
