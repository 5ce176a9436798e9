"""Tables whose segments are Arrow streams: each change is encoded once."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from hpcstream.state.stream_table import StreamTable
from hpcstream.state.table import counts_name, snapshot


class Lists(StreamTable):
    """Lists of numbers by name; the version is the length."""

    def __init__(self):
        super().__init__("lists")
        self.lists = {"a": [1, 2], "b": [], "c": [3]}
        self.encoded = []

    def versions(self):
        return [(name, str(len(numbers))) for name, numbers in self.lists.items()]

    def rows_of(self, name):
        self.encoded.append(name)
        return pa.record_batch({"x": pa.array(self.lists[name], pa.int64())})


def test_what_was_written_is_read_segment_by_segment():
    table = Lists()

    arrays = snapshot([table])

    assert table.is_in(arrays)
    assert arrays[counts_name("lists")].sum() == len(arrays["lists:data"])
    found = [batch.column("x").to_pylist() for batch in table.batches_of(arrays)]
    assert found == [[1, 2], [], [3]]
    assert not Lists().is_in({})


def test_a_segment_is_encoded_once_for_its_size_and_its_bytes_and_again_when_it_changed():
    table = Lists()
    snapshot([table])
    assert table.encoded == ["a", "b", "c"]

    table.lists["b"].append(4)
    sizes = [segment.n_entries for segment in table.segments()]
    copied = table.copy(np.array([1]))

    assert table.encoded == ["a", "b", "c", "b"]
    assert len(copied.arrays["lists:data"]) == sizes[1]


def test_a_segment_that_is_gone_is_forgotten():
    table = Lists()
    snapshot([table])
    gone = table.lists.pop("a")
    table.segments()
    table.lists["a"] = gone

    assert [segment.name for segment in table.segments()] == ["b", "c", "a"]
    assert table.encoded == ["a", "b", "c", "a"]
