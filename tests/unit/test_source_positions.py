"""Positions of a source: opaque JSON that its reader gives, apart from the numbers of rows."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.columns.event_time import ORDER_COLUMN
from hpcstream.columns.row_order import orders_of_rows
from hpcstream.connectors.base import Chunk, Split, row_position
from hpcstream.connectors.defaults import as_source
from hpcstream.errors import ConnectorError
from hpcstream.runtime.sources.bounded_reader import BoundedReader
from hpcstream.runtime.sources.live_reader import LiveReader
from hpcstream.runtime.sources.split_progress import SplitProgress
from hpcstream.runtime.sources.stamping import SourceSpec

SCHEMA = pa.schema({"x": pa.int64()})


class Log:
    """Entries with ids that have gaps: a position is the id of the last entry read, as text."""

    schema = SCHEMA
    bounded = False

    def __init__(self, ids, per_read=2):
        self.ids, self.per_read, self.opened_at = ids, per_read, []

    def list_splits(self):
        return [Split("log")]

    def open(self, split, position=None):
        self.opened_at.append(position)
        return LogReader(self, position)


class LogReader:
    def __init__(self, log, position):
        self.log, self.after = log, -1 if position is None else int(position.removeprefix("id-"))

    def read(self, max_rows):
        ids = [i for i in self.log.ids if i > self.after][: min(max_rows, self.log.per_read)]
        if not ids:
            return None
        self.after = ids[-1]
        return Chunk(pa.record_batch({"x": ids}, SCHEMA), len(ids), f"id-{self.after}")


def spec_of(source):
    return SourceSpec(as_source(source), ("x",), None, 0, None, has_order=True)


def stored(progress):
    return SplitProgress.from_json(json.loads(json.dumps(progress.to_json())))


def drained(reader):
    rows = []
    while not reader.ended:
        if isinstance(reader, LiveReader):
            batches = list(reader.poll(100, 0.0))
        else:
            batches = list(reader.read_round(3))
        rows += [row for batch in batches for row in batch.to_pylist()]
    return rows


@given(
    ids=st.sets(st.integers(0, 99), max_size=12).map(sorted),
    per_read=st.integers(1, 4),
    restart_after=st.integers(0, 5),
    is_live=st.booleans(),
)
def test_a_restart_goes_on_at_the_readers_position_and_numbers_rows_on(
    ids, per_read, restart_after, is_live
):
    log = Log(ids, per_read)

    def reader_of(progress):
        if is_live:
            return LiveReader(spec_of(log), [progress], 0.0)
        return BoundedReader(spec_of(log), [progress])

    reader, rows = reader_of(SplitProgress(3, Split("log"))), []
    for _ in range(restart_after):
        batches = reader.poll(2, 0.0) if is_live else reader.read_round(2)
        rows += [row for batch in batches for row in batch.to_pylist()]
    (progress,) = reader.progress
    if not progress.done:
        rows += drained(reader_of(stored(progress)))

    assert [row["x"] for row in rows] == ids
    orders = orders_of_rows(0, 3, 0, len(ids)).tolist()
    assert [row[ORDER_COLUMN] for row in rows] == orders


def test_a_split_that_is_not_begun_is_opened_without_a_position():
    log = Log([5])

    LiveReader(spec_of(log), [stored(SplitProgress(0, Split("log")))], 0.0)

    assert log.opened_at == [None]


def test_a_position_given_with_no_rows_counts_too():
    progress = SplitProgress(0, Split("log"))

    progress.advance(Chunk(pa.record_batch({"x": []}, SCHEMA), 0, [7, "a"]))

    assert (progress.rows, stored(progress).resume_at) == (0, [7, "a"])


def test_rows_without_a_position_after_some_with_one_are_refused():
    progress = SplitProgress(0, Split("log"))
    batch = pa.record_batch({"x": [1]}, SCHEMA)
    progress.advance(Chunk(batch, 1, "id-1"))

    progress.advance(Chunk(batch.slice(1), 0))
    with pytest.raises(
        ConnectorError, match="log: a chunk with rows, after position 'id-1', has no"
    ):
        progress.advance(Chunk(batch, 1))


@pytest.mark.parametrize("position", [b"id", {1, 2}, {"at": object()}])
def test_a_position_that_is_no_json_is_refused_by_name(position):
    progress = SplitProgress(0, Split("log"), 1, position)

    with pytest.raises(ConnectorError, match=r"log: position .* cannot be stored"):
        progress.to_json()


@pytest.mark.parametrize("position", ["3", 1.5, -1, True])
def test_a_source_that_counts_rows_takes_no_other_position(position):
    with pytest.raises(ConnectorError, match="number of rows"):
        row_position(position)
