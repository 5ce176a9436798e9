"""What every source has to do; inherited by a test class for each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from hpcstream.connectors.base import Source, Split, SplitReader
from hpcstream.runtime.sources.split_progress import SplitProgress

NUMBER_OF_ROWS = 1_000


def sample_table(n_rows: int = NUMBER_OF_ROWS) -> pa.Table:
    """Rows with each kind of column that every format can hold, nulls included."""
    numbers = list(range(n_rows))
    return pa.table(
        {
            "time": pa.array([10 * i + (i * 7) % 13 for i in numbers], pa.int64()),
            "key": pa.array([f"k{i % 17}" for i in numbers]),
            "value": pa.array([None if i % 11 == 3 else i / 4 for i in numbers], pa.float64()),
            "small": pa.array([i % 5 - 2 for i in numbers], pa.int64()),
        }
    )


def read_rest(reader: SplitReader, max_rows: int) -> list[pa.RecordBatch]:
    """Read a reader to its end, checking what each chunk promises."""
    batches = []
    while (chunk := reader.read(max_rows)) is not None:
        assert chunk.batch.num_rows <= chunk.scanned <= max_rows
        batches.append(chunk.batch)
    return batches


def read_all(
    source: Source, max_rows: int = 64, splits: Sequence[Split] | None = None
) -> list[dict[str, Any]]:
    """Return all rows of a bounded source, split after split."""
    chosen = source.list_splits() if splits is None else splits
    rows = []
    for split in chosen:
        for batch in read_rest(source.open(split), max_rows):
            assert batch.schema.equals(source.schema, check_metadata=True)
            rows += batch.to_pylist()
    return rows


class SourceContract:
    """A subclass gives a fixture ``source`` of `sample_table`, bounded, with event time "time"."""

    def expected(self) -> pa.Table:
        return sample_table()

    def test_every_row_is_delivered_once_in_order(self, source):
        assert read_all(source) == self.expected().to_pylist()

    @pytest.mark.parametrize("max_rows", [1, 7, 64, 1_000_000])
    def test_a_read_scans_exactly_what_was_asked_until_the_split_ends(self, source, max_rows):
        for split in source.list_splits()[:3]:
            reader = source.open(split)
            sizes = []
            while (chunk := reader.read(max_rows)) is not None:
                sizes.append(chunk.scanned)
            assert all(size == max_rows for size in sizes[:-1])
            assert 0 < sizes[-1] <= max_rows
            if split.n_rows is not None:
                assert sum(sizes) == split.n_rows

    def test_reading_goes_on_from_any_position(self, source):
        for split in source.list_splits()[:3]:
            whole = pa.Table.from_batches(read_rest(source.open(split), 37), source.schema)
            positions = [0, 1, 36, 37, 64, whole.num_rows - 1, whole.num_rows]
            for position in {min(p, whole.num_rows) for p in positions}:
                reader = source.open(split, position)
                rest = pa.Table.from_batches(read_rest(reader, 50), source.schema)
                assert rest.to_pylist() == whole.slice(position).to_pylist()

    def test_a_reader_may_be_replaced_after_every_chunk(self, source):
        rows = []
        for number, split in enumerate(source.list_splits()):
            progress = SplitProgress(number, split)
            reader = progress.opened(source)
            while (chunk := reader.read(61)) is not None:
                rows += chunk.batch.to_pylist()
                progress.advance(chunk)
                reader.close()
                progress = SplitProgress.from_json(json.loads(json.dumps(progress.to_json())))
                reader = progress.opened(source)
        assert rows == self.expected().to_pylist()

    def test_splits_survive_json_and_have_distinct_names(self, source):
        splits = source.list_splits()
        sent = [Split.from_json(json.loads(json.dumps(split.to_json()))) for split in splits]

        assert sent == splits
        assert len({split.id for split in splits}) == len(splits)
        assert read_all(source, splits=sent) == self.expected().to_pylist()

    def test_listing_again_gives_the_same_splits(self, source):
        assert source.list_splits() == source.list_splits()

    def test_no_row_is_outside_the_bounds_of_its_split(self, source):
        for split in source.list_splits():
            if split.first_time is not None:
                batches = read_rest(source.project(["time"]).open(split), 100)
                times = [t for batch in batches for t in batch["time"].cast(pa.int64()).to_pylist()]
                assert split.first_time <= min(times)
                assert max(times) <= split.last_time

    @pytest.mark.parametrize("columns", [["value", "time"], ["key"], []])
    def test_a_projection_delivers_only_those_columns(self, source, columns):
        narrow = source.project(columns)

        assert narrow.schema.names == columns
        assert source.schema.names == self.expected().column_names, "the source itself is unchanged"
        assert read_all(narrow) == self.expected().select(columns).to_pylist()

    @pytest.mark.parametrize(
        "predicate",
        [
            pc.field("small") > 0,
            (pc.field("value") < 100) & (pc.field("key") != "k3"),
            ~(pc.field("value") < 200),
            pc.field("value").is_null(),
            pc.field("time") < 3_000,
            pc.field("time") < -1,
        ],
        ids=str,
    )
    def test_a_filter_is_exact_or_refused(self, source, predicate):
        filtered = source.filter(predicate)
        if filtered is None:
            return
        kept = self.expected().filter(predicate)

        assert read_all(filtered) == kept.to_pylist()
        assert read_all(filtered.project(["key"])) == kept.select(["key"]).to_pylist()
        chunks = [filtered.open(s).read(10**9) for s in filtered.list_splits()]
        assert sum(chunk.scanned for chunk in chunks) == self.expected().num_rows

    def test_filters_add_up_also_on_columns_that_were_dropped(self, source):
        filtered = source.filter(pc.field("small") > 0)
        if filtered is None:
            return
        twice = filtered.project(["key"]).filter(pc.field("time") >= 500)

        kept = self.expected().filter((pc.field("small") > 0) & (pc.field("time") >= 500))
        assert read_all(twice) == kept.select(["key"]).to_pylist()
        assert "filter" in twice.describe()

    def test_batches_stay_valid_when_the_reader_is_closed(self, source):
        reader = source.open(source.list_splits()[0])
        chunk = reader.read(20)
        before = chunk.batch.to_pylist()
        reader.close()

        assert chunk.batch.to_pylist() == before
        assert reader.read(20) is None

    def test_the_end_stays_the_end(self, source):
        reader = source.open(source.list_splits()[0])
        read_rest(reader, 10**9)

        assert reader.read(1) is None
        assert reader.read(1) is None

    def test_it_describes_itself_in_one_line(self, source):
        assert "\n" not in source.describe()
        assert "value" in source.project(["value"]).describe()
