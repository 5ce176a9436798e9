"""Memory for the next checkpoint is there, and touched, before it is needed."""

from __future__ import annotations

import resource

import numpy as np
import pytest

from hpcstream.checkpoint.copy_buffers import CopyBuffers, wanted_sizes
from hpcstream.checkpoint.increments import StoredSegment
from hpcstream.memory.pool import BufferPool
from hpcstream.state.table import Segment, StateTable, TableCopy

MIB = 1 << 20


@pytest.fixture
def pool():
    return BufferPool(spare_bytes=0)


def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def copy_faults(pool, size):
    before = faults()
    pool.empty(size, np.uint8).fill(1)
    return faults() - before


def test_a_copy_into_the_buffers_touches_no_fresh_page(pool):
    buffers = CopyBuffers(pool)
    buffers.fill({"0/1": [24 * MIB, 5 * MIB]})
    arenas = pool.statistics().arenas
    buffers.release("0/1")

    assert copy_faults(pool, 16 * MIB) <= 2
    assert copy_faults(pool, 4 * MIB) <= 2
    assert pool.statistics().arenas == arenas
    assert copy_faults(pool, 64 * MIB) >= 32, "fresh memory is told apart, huge pages too"


def test_it_says_whether_copies_would_find_their_memory(pool):
    buffers = CopyBuffers(pool)
    assert buffers.covers({})
    assert not buffers.covers({"0/1": [MIB]})
    buffers.fill({"0/1": [2 * MIB, 8 * MIB]})

    assert buffers.covers({"0/1": [5 * MIB, 2 * MIB]})
    assert buffers.covers({"0/1": [5 * MIB]})
    assert not buffers.covers({"0/1": [2 * MIB, 2 * MIB]}), "each block once"
    assert not buffers.covers({"0/1": [9 * MIB]})
    assert not buffers.covers({"0/1": [3 * MIB]}), "the pool hands out no block so much larger"
    assert not buffers.covers({"1/0": [2 * MIB]})


def test_blocks_of_copies_that_are_written_are_kept_and_used_again(pool):
    buffers = CopyBuffers(pool)
    copies = {"words": pool.empty(2 * MIB, np.uint8), "small": pool.empty(8, np.uint8)}
    copies["heap"] = np.zeros(2 * MIB, dtype=np.uint8)
    buffers.keep("0/1", copies.values())
    del copies
    arenas = pool.statistics().arenas

    buffers.fill({"0/1": [3 * MIB // 2]})  # fits into what is kept
    assert pool.statistics().arenas == arenas
    assert pool.statistics().bytes_in_use == 2 * MIB

    buffers.fill({})  # too much goes back
    assert pool.statistics().bytes_in_use == 0


def test_what_one_operator_takes_leaves_the_others_theirs(pool):
    buffers = CopyBuffers(pool)
    buffers.fill({"0/1": [2 * MIB], "1/0": [4 * MIB]})

    buffers.release("0/1")
    buffers.release("0/0")

    assert pool.statistics().bytes_in_use == 4 * MIB


def test_an_operator_that_is_copied_meanwhile_gets_no_more(pool):
    buffers = CopyBuffers(pool)
    touched = buffers._prefaulted

    def and_a_checkpoint_begins(size):
        buffers.release("0/1")
        return touched(size)

    buffers._prefaulted = and_a_checkpoint_begins
    buffers.fill({"0/1": [2 * MIB, 3 * MIB], "1/0": [4 * MIB]})

    assert pool.statistics().bytes_in_use == 4 * MIB


class Numbers(StateTable):
    """A table of segments that are not copied to find out how large they are."""

    def __init__(self, name, *segments):
        self.name, self._segments = name, segments

    def segments(self):
        return self._segments

    def copy(self, indices):
        assert not len(indices)
        return TableCopy({"keys": np.empty(0, np.int64), "is_null": np.empty(0, np.uint8)})


def test_only_the_segments_that_will_be_copied_before_rounds_go_on_need_memory():
    first = Numbers("first", Segment("a", "1", 1_000_000), Segment("b", "1", 2_000_000))
    second = Numbers("second", Segment("a", "1", 4_000_000))
    later = Numbers("later", Segment("a", "1", 9_000_000))
    later.is_copied = False
    known = {"first": {"a": StoredSegment("a", "1", "file", 0, 1_000_000)}}

    sizes = wanted_sizes([first, second, later], known)

    assert [round(size / 1_000_000 / 1.45, 2) for size in sizes] == [16, 2, 32, 4]
    assert wanted_sizes([Numbers("none")], {}) == []
