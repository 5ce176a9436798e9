"""A table is read whole, or by key groups: what an instance owns, and little more."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpcstream.checkpoint.format import CheckpointFile, Section, write_file
from hpcstream.checkpoint.increments import OWN, SegmentMemory, copy_state
from hpcstream.checkpoint.reading import read_state
from hpcstream.columns.ownership import Ownership, word_groups
from hpcstream.state.group_order import in_group_order
from hpcstream.state.slices.loading import first_order
from hpcstream.state.table import Order, Segment, StateTable, TableCopy, counts_name

STRIDE = 4
PATH = "3/1"


class Numbers(StateTable):
    """Segments of numbers, each ordered by the key group of its numbers; and one that is not."""

    def __init__(self, *, ordered):
        self.name = "ordered" if ordered else "plain"
        self.order = Order("places", "index", STRIDE) if ordered else None
        self.values: dict[str, list[int]] = {}

    def head(self):
        return {f"{self.name} names": np.array([int(name) for name in self.values])}

    def segments(self):
        return [Segment(name, str(len(v)), len(v)) for name, v in self.values.items()]

    def copy(self, indices):
        values = list(self.values.values())
        chosen = [np.array(values[i], dtype=np.int64) for i in indices]
        numbers = np.concatenate([np.zeros(0, np.int64), *chosen])
        arrays = {f"{self.name} numbers": numbers, f"{self.name} pairs": np.stack([numbers] * 2, 1)}
        counts = np.array([len(one) for one in chosen], dtype=np.int64)
        if self.order is None:
            return TableCopy(arrays)
        groups = word_groups(numbers, np.zeros(len(numbers), np.bool_))
        return TableCopy(arrays, lambda: in_group_order(arrays, groups, counts, self.order))


class Checkpoints:
    """Files of one rank, each of which may refer to earlier ones."""

    def __init__(self, folder):
        self._folder, self._memory, self._written = folder, SegmentMemory(), {}

    def take(self, tables):
        copied = copy_state(tables, self._memory.known(PATH))
        arrays = dict(copied.arrays)
        for finish in copied.finishes:
            arrays |= finish()
        name = f"{len(self._written)}.h5"
        written = write_file(str(self._folder / name), [Section(PATH, arrays)])
        shared = self._memory.files_of(copied.tables)
        self._memory.complete({PATH: copied.tables}, shared, name, written)
        self._written[name] = written
        return name, copied.tables

    def read(self, own, tables, groups):
        with ExitStack() as stack:
            files = {}

            def file_of(place):
                name = own if place == OWN else place
                if name not in files:
                    file = CheckpointFile(str(self._folder / name), self._written[name])
                    files[name] = stack.enter_context(file)
                return files[name]

            return read_state(PATH, tables, file_of, groups)


@pytest.fixture(autouse=True)
def wrapping_arithmetic():
    with np.errstate(over="ignore"):  # only without compilation: hashing means to wrap
        yield


changes = st.dictionaries(st.integers(0, 5).map(str), st.lists(st.integers(0, 999), max_size=60))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(changes, min_size=1, max_size=4), n=st.integers(1, 5))
def test_what_is_read_is_what_was_taken(steps, n, tmp_path):
    tables = [Numbers(ordered=True), Numbers(ordered=False)]
    checkpoints = Checkpoints(tmp_path)
    for step in steps:
        for table in tables:
            for name, values in step.items():
                table.values.setdefault(name, []).extend(values)
        own, stored = checkpoints.take(tables)
    expected = tables[0].values

    whole = checkpoints.read(own, stored, None)
    for table in tables:
        npt.assert_array_equal(whole[f"{table.name} names"], [int(name) for name in expected])
        assert whole[counts_name(table.name)].tolist() == [len(v) for v in expected.values()]
    everything = [number for values in expected.values() for number in values]
    assert whole["plain numbers"].tolist() == everything
    assert whole["plain pairs"].tolist() == [[number] * 2 for number in everything]
    order = first_order(whole["places"], whole[counts_name("ordered")])
    assert whole["ordered numbers"][order].tolist() == everything
    assert whole["ordered pairs"][order, 1].tolist() == everything

    for instance in range(n):
        assert_owned(checkpoints, own, stored, expected, Ownership(instance, n))


def assert_owned(checkpoints, own, stored, expected, owned):
    part = checkpoints.read(own, stored, owned.groups)
    read, counts = part["ordered numbers"], part[counts_name("ordered")]
    of_segments = np.split(read, np.cumsum(counts)[:-1]) if len(counts) else []
    for values, found in zip(expected.values(), of_segments, strict=True):
        mine = sorted(values[i] for i in np.flatnonzero(owns(values, owned)))
        assert sorted(found[owns(found, owned)].tolist()) == mine
        assert len(found) <= len(mine) + 2 * STRIDE
    assert len(part["plain numbers"]) == sum(map(len, expected.values()))


def owns(values, owned):
    numbers = np.array(values, dtype=np.int64)
    return owned.owns(word_groups(numbers, np.zeros(len(numbers), np.bool_)))
