"""Slots move within arenas as they do to others; arenas that hold much are not copied to grow."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.testing as npt
import pytest

from hpcstream.state.arrays import HeapAllocator, Word, read_only
from hpcstream.state.slices.store import SliceStore
from hpcstream.state.word_arrays import move


class CountingAllocator(HeapAllocator):
    """Notes how many items each array was asked for with."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def empty(self, n: int, dtype: Any) -> np.ndarray[Any, Any]:
        self.asked.append(n)
        return super().empty(n, dtype)


@pytest.mark.parametrize("shape", [(1000,), (1000, 3)])
def test_slots_move_within_arenas_as_they_do_to_others(shape):
    rng = np.random.default_rng(3)
    array = rng.integers(0, 1 << 40, shape)
    old = rng.permutation(1000)[:700].astype(np.uint32)
    other, expected = np.zeros_like(array), array[old]

    move([array], old, [other], HeapAllocator())
    npt.assert_array_equal(other[1:701], expected)
    move([array], old, [array], HeapAllocator())
    npt.assert_array_equal(array[1:701], expected)


def test_many_entries_become_more_without_another_arena():
    allocator = CountingAllocator()
    words = [Word(f"word{i}", "int64", 0) for i in range(5)]
    store = SliceStore(10, 0, words, allocator)
    add_slices(store, range(4))
    allocator.asked.clear()
    add_slices(store, range(4, 20))

    assert store.n_entries == 2_000_000
    arenas = [n for n in set(allocator.asked) if allocator.asked.count(n) >= 7]
    assert arenas == []  # keys, rows and words are always asked for together
    assert store.n_bytes < 100 * 3_000_000  # what is not touched does not count


def test_packing_gives_memory_of_many_entries_back_when_few_are_left():
    store = SliceStore(10, 0, [Word("sum", "int64", 0)], HeapAllocator())
    add_slices(store, range(8))
    most = store.n_bytes
    for number in range(8, 80):
        store.close(store.slices_below(number)[1])
        store.forget_below(number)
        add_slices(store, [number], n_keys=100)
    store.pack()

    assert store.n_bytes < most / 10


def add_slices(store: SliceStore, numbers: Any, n_keys: int = 100_000) -> None:
    for number in numbers:
        keys = read_only(np.arange(n_keys) * 1_000_003)
        store.resolve(read_only(np.full(n_keys, 10 * number)), keys)
