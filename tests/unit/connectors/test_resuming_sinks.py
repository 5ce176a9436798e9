"""A file sink that goes on from a checkpoint: what is covered stays, everything else goes."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hpcstream.connectors.in_process.sinks import MemorySink
from hpcstream.connectors.parts.sinks import parquet_sink

SCHEMA = pa.schema({"x": pa.int64()})


def batch(*values):
    return pa.record_batch({"x": list(values)})


def rows(out):
    parts = [pq.read_table(path)["x"].to_pylist() for path in sorted(out.glob("*.parquet"))]
    return sorted(value for part in parts for value in part)


class Ranks:
    """The instances of one sink on some ranks, in one attempt."""

    def __init__(self, out, size, attempt, stored=None):
        self.sinks = [parquet_sink(out) for _ in range(size)]
        for rank, sink in enumerate(self.sinks):
            if stored is None:
                sink.begin(SCHEMA, rank, size, attempt)
            else:
                sink.resume(SCHEMA, rank, size, attempt, stored)

    def write(self, *values):
        for rank, sink in enumerate(self.sinks):
            sink.write(batch(*[10 * value + rank for value in values]))

    def checkpoint(self, *, commit=True):
        durable = [sink.cut() for sink in self.sinks]
        positions = [sink.position() for sink in self.sinks]
        parts = [part for make_durable in durable for part in make_durable()]
        if commit:
            self.commit(parts)
        return {"parts": parts, "positions": positions}

    def commit(self, parts):
        for sink in self.sinks:
            sink.commit(parts)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_parts_that_were_not_yet_visible_become_so_and_later_ones_go(tmp_path, size):
    old = Ranks(tmp_path, 2, 1)
    old.write(1)
    old.checkpoint()
    old.write(2)
    stored = old.checkpoint(commit=False)
    old.write(3)
    old.checkpoint(commit=False)
    old.write(4)

    new = Ranks(tmp_path, size, 2, stored)

    assert rows(tmp_path) == [10, 11, 20, 21]
    assert not list(tmp_path.glob("*.tmp"))
    new.write(3)
    new.checkpoint()
    assert rows(tmp_path) == [10, 11, 20, 21, *(30 + rank for rank in range(size))]


def test_going_back_to_an_older_checkpoint_takes_later_rows_back(tmp_path):
    old = Ranks(tmp_path, 2, 1)
    old.write(1)
    stored = old.checkpoint()
    old.write(2)
    old.checkpoint()
    assert rows(tmp_path) == [10, 11, 20, 21]

    Ranks(tmp_path, 2, 2, stored)

    assert rows(tmp_path) == [10, 11]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_output_without_rows_can_be_read_also_after_restarts(tmp_path, size):
    stored = Ranks(tmp_path, 2, 1).checkpoint()
    stored = Ranks(tmp_path, size, 2, stored).checkpoint()
    assert not list(tmp_path.glob("*.parquet"))

    last = Ranks(tmp_path, size, 3, stored)
    last.commit([part for sink in last.sinks for part in sink.prepare()])

    assert [path.name for path in tmp_path.glob("*.parquet")] == ["part-00000-00000.parquet"]
    assert pq.read_schema(tmp_path / "part-00000-00000.parquet") == SCHEMA


@pytest.mark.parametrize("size", [1, 2])
def test_no_empty_part_is_added_to_what_was_written_before_a_restart(tmp_path, size):
    first = Ranks(tmp_path, 2, 1)
    first.write(1)
    stored = first.checkpoint()
    for position in stored["positions"] if size == 1 else ():
        del position["wrote"]  # as in checkpoints of earlier versions

    last = Ranks(tmp_path, size, 2, stored)
    last.commit([part for sink in last.sinks for part in sink.prepare()])

    assert len(list(tmp_path.glob("*.parquet"))) == 2
    assert rows(tmp_path) == [10, 11]


def test_parts_of_before_a_change_of_size_stay(tmp_path):
    first = Ranks(tmp_path, 3, 1)
    first.write(1, 2)
    stored = first.checkpoint()
    second = Ranks(tmp_path, 1, 2, stored)
    second.write(3)
    stored = second.checkpoint()
    second.write(4)
    second.checkpoint()

    Ranks(tmp_path, 2, 3, stored)

    assert rows(tmp_path) == [10, 11, 12, 20, 21, 22, 30]


def test_parts_of_an_earlier_job_go_with_the_first_commit_and_do_not_come_back(tmp_path):
    earlier = Ranks(tmp_path, 3, 0)
    earlier.write(7)
    earlier.checkpoint()
    job = Ranks(tmp_path, 1, 1)
    job.write(1)
    stored = job.checkpoint()
    assert rows(tmp_path) == [10]

    Ranks(tmp_path, 1, 2, stored)

    assert rows(tmp_path) == [10]


def test_an_old_attempt_cannot_publish_what_a_new_one_has_removed(tmp_path):
    old = Ranks(tmp_path, 1, 1)
    old.write(1)
    stored = old.checkpoint()
    old.write(2)
    later = old.checkpoint(commit=False)
    Ranks(tmp_path, 1, 2, stored)

    with pytest.raises(Exception, match="was cut off"):
        old.commit(later["parts"])

    assert rows(tmp_path) == [10]


def test_rows_in_memory_are_part_of_the_checkpoint():
    sink = MemorySink()
    sink.begin(SCHEMA, 0, 1, 1)
    sink.write(batch(1))
    sink.commit(sink.prepare())
    sink.write(batch(2))
    snapshot = sink.snapshot()

    other = MemorySink()
    other.begin(SCHEMA, 0, 1, 2)
    other.restore([snapshot])

    assert other.table["x"].to_pylist() == [1, 2]
