"""Reading splits: rounds by rows scanned, hidden columns, watermarks, idleness."""

from __future__ import annotations

import datetime as dt
import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.columns.event_time import MAX_TIME, MIN_TIME, ORDER_COLUMN, TIME_COLUMN, TimeUnit
from hpcstream.columns.row_order import orders_of_rows
from hpcstream.connectors.base import Chunk, Split
from hpcstream.connectors.defaults import as_source
from hpcstream.errors import ConnectorError
from hpcstream.operators.stream_time import EventTime
from hpcstream.runtime.sources.bounded_reader import BoundedReader
from hpcstream.runtime.sources.live_reader import LiveReader
from hpcstream.runtime.sources.split_progress import SplitProgress
from hpcstream.runtime.sources.stamping import SourceSpec
from hpcstream.testing import ListSource, StepSource

SCHEMA = pa.schema({"t": pa.int64(), "x": pa.int64()})


def rows(*times):
    return {"t": list(times), "x": [10 * t if t is not None else 0 for t in times]}


def spec_of(source, *, names=("t", "x"), time=True, has_order=False, delay=0, idle_timeout_s=None):
    event_time = None
    if time:
        data_type = source.schema.field("t").type
        event_time = EventTime("t", TimeUnit.of_type(data_type, "ms"), data_type)
    return SourceSpec(as_source(source), names, event_time, delay, idle_timeout_s, has_order)


def splits_of(source):
    return [SplitProgress(number, split) for number, split in enumerate(source.list_splits())]


def bounded(source, **options):
    return BoundedReader(spec_of(source, **options), splits_of(source))


def live(source, now_s=0.0, **options):
    return LiveReader(spec_of(source, **options), splits_of(source), now_s)


def read_all(reader, max_rows):
    rounds = []
    while not reader.ended:
        rounds.append([row for b in reader.read_round(max_rows) for row in b.to_pylist()])
    return rounds


@given(
    st.lists(st.lists(st.integers(0, 7), max_size=4), max_size=4),
    st.integers(1, 9),
)
def test_rounds_of_a_bounded_source_are_full_but_for_the_last(sizes, max_rows):
    splits = [[rows(*range(n)) for n in split] for split in sizes]
    reader = bounded(ListSource(splits, schema=SCHEMA))

    rounds = [len(r) for r in read_all(reader, max_rows)]

    total = sum(map(sum, sizes))
    assert sum(rounds) == total == reader.rows_scanned
    full = [n for n in rounds if n]
    assert all(max_rows <= n < max_rows + max(1, max_rows // 2) for n in full[:-1])


@given(
    sizes=st.lists(st.integers(0, 7), max_size=8),
    max_rows=st.integers(1, 9),
    looks=st.integers(1, 3),
)
def test_progress_as_json_is_that_of_all_splits_at_any_time(sizes, max_rows, looks):
    reader = bounded(ListSource([[rows(*range(n))] for n in sizes], schema=SCHEMA))

    for step in range(sum(sizes) + 1):
        if step % looks == 0:
            found = json.loads(reader.progress_as_json().text)
            assert found == [one.to_json() for one in reader.progress]
        list(reader.read_round(max_rows))
    assert json.loads(reader.progress_as_json().text) == [one.to_json() for one in reader.progress]


def test_a_round_takes_what_a_split_has_left_rather_than_cut_it():
    splits = [[rows(*range(3))], *([rows(*range(5))] for _ in range(4))]
    reader = bounded(ListSource(splits, schema=SCHEMA))

    assert [len(r) for r in read_all(reader, 10) if r] == [13, 10]


@pytest.mark.parametrize("n_rows", ["10", -1, 2.5, float("nan")])
def test_a_split_says_how_many_rows_it_has_or_nothing(n_rows):
    with pytest.raises(ConnectorError, match=r"split 'a': n_rows must be .* got"):
        Split("a", n_rows=n_rows)


class Stuck:
    """A reader that never says that it has ended."""

    position = 0

    def read(self, max_rows):
        return Chunk(pa.record_batch(rows(), schema=SCHEMA), 0)

    def close(self):
        pass


def test_a_reader_that_never_ends_is_named():
    source = ListSource([[rows(1)]], schema=SCHEMA)
    source.open = lambda split, position=0: Stuck()
    reader = bounded(source)

    with pytest.raises(ConnectorError, match=r"1,000 chunks in a row .* returns None at its end"):
        read_all(reader, 10)


def test_a_round_ends_among_many_splits_without_rows():
    reader = bounded(ListSource([[] for _ in range(1000)] + [[rows(1)]], schema=SCHEMA))

    found = read_all(reader, 10)

    assert len(found) > 5
    assert [row["t"] for r in found for row in r] == [1]


def test_rows_keep_the_order_of_splits_and_of_rows():
    reader = bounded(ListSource([[rows(1, 2), rows(3)], [rows(4)]]), time=False)

    assert [row["t"] for r in read_all(reader, 2) for row in r] == [1, 2, 3, 4]


def test_event_time_comes_after_the_columns():
    reader = bounded(ListSource([[rows(5, 6)]]), names=("x",))

    (batch,) = reader.read_round(10)

    assert batch.schema.names == ["x", TIME_COLUMN]
    assert batch[TIME_COLUMN].to_pylist() == [5, 6]


def test_timestamps_become_counts_of_their_unit():
    times = [dt.datetime(1970, 1, 1, 0, 0, 1), dt.datetime(1970, 1, 1, 0, 0, 2)]
    batch = pa.record_batch({"t": pa.array(times, pa.timestamp("ms"))})
    reader = bounded(ListSource([[batch]]), names=("t",))

    (batch,) = reader.read_round(10)

    assert batch[TIME_COLUMN].to_pylist() == [1000, 2000]


def test_row_order_tells_source_split_and_row_apart():
    reader = bounded(ListSource([[rows(1), rows(2, 3)], [rows(4, 5)]]), has_order=True)

    order = [row[ORDER_COLUMN] for r in read_all(reader, 2) for row in r]

    assert order == [0, 1, 2, 1 << 36, (1 << 36) + 1]
    other = orders_of_rows(1, 0, 0, 1)
    assert other > orders_of_rows(0, (1 << 20) - 1, (1 << 36) - 1, 1)


def test_a_split_without_a_place_in_the_row_order_is_refused_by_name():
    source = ListSource([[rows(1)]], schema=SCHEMA)
    progress = SplitProgress(1 << 20, Split("one too many", source.list_splits()[0].info))
    reader = BoundedReader(spec_of(source, has_order=True), [progress])

    with pytest.raises(ConnectorError, match=r"one too many: split number 1,048,576"):
        list(reader.read_round(1))


def test_a_null_event_time_is_named_with_its_split_and_row():
    reader = bounded(ListSource([[rows(1, 2), rows(3, None)]], schema=SCHEMA))

    with pytest.raises(ConnectorError, match=r"split-0: event time 't' is null in row 3 .*filter"):
        read_all(reader, 3)


def test_the_watermark_waits_for_splits_that_start_earlier():
    source = ListSource([[rows(1, 9)], [rows(4, 12)]], event_time="t")
    reader = bounded(source, delay=2)
    assert reader.watermark == MIN_TIME

    marks = []
    while not reader.ended:
        list(reader.read_round(1))
        marks.append(reader.watermark)

    assert marks == [-1, 4, 4, 10, MAX_TIME]


def test_a_bounded_reader_is_never_idle_and_names_its_split():
    reader = bounded(ListSource([[rows(1)], [rows(2)]]))

    assert not reader.is_idle
    assert reader.slowest_split == "split-0"
    list(reader.read_round(10))
    assert reader.slowest_split is None
    assert reader.watermark == MAX_TIME


def test_an_error_of_a_reader_comes_in_its_place():
    reader = bounded(ListSource([[rows(1, 2), OSError("disk"), rows(3)]]))

    list(reader.read_round(2))
    with pytest.raises(OSError, match="disk"):
        list(reader.read_round(2))


# -- live --------------------------------------------------------------------------------


def poll(reader, now_s, max_rows=100):
    return [row["t"] for batch in reader.poll(max_rows, now_s) for row in batch.to_pylist()]


def test_live_splits_are_polled_in_turn_within_the_rows_of_a_round():
    feed = StepSource(SCHEMA, n_splits=2)
    reader = live(feed)
    feed.push(rows(1, 2, 3))
    feed.push(rows(4, 5), split=1)

    assert poll(reader, 0.0, max_rows=4) == [1, 2, 3, 4]
    assert poll(reader, 0.0) == [5]
    assert poll(reader, 0.0) == []
    assert reader.rows_scanned == 5


def test_a_split_that_always_has_rows_neither_starves_the_others_nor_makes_them_idle():
    feed = StepSource(SCHEMA, n_splits=2)
    reader = live(feed, idle_timeout_s=5.0)
    feed.push(rows(1), split=1)
    feed.push(rows(*range(100, 110)))

    assert poll(reader, 0.0, max_rows=4) == [100, 101, 102, 103]
    assert reader.mark == MIN_TIME  # nobody has asked the other yet
    assert poll(reader, 60.0, max_rows=4) == [1, 104, 105, 106]
    assert not reader.is_idle
    assert reader.mark == 1


def test_the_slowest_live_split_holds_time_back():
    feed = StepSource(SCHEMA, n_splits=2)
    reader = live(feed)
    feed.push(rows(10))
    poll(reader, 0.0)
    assert reader.mark == MIN_TIME
    assert reader.slowest_split == "split-1"

    feed.push(rows(4), split=1)
    poll(reader, 0.0)

    assert reader.mark == 4


def test_a_silent_split_stops_holding_time_back_until_it_has_rows_again():
    feed = StepSource(SCHEMA, n_splits=2)
    reader = live(feed, idle_timeout_s=5.0)
    feed.push(rows(10))
    poll(reader, 4.0)

    poll(reader, 6.0)
    assert reader.mark == 10
    assert not reader.is_idle
    poll(reader, 10.0)
    assert reader.is_idle
    assert reader.mark is None
    assert reader.slowest_split is None
    feed.push(rows(12), split=1)
    poll(reader, 11.0)

    assert not reader.is_idle
    assert reader.mark == 12


def test_a_split_that_wakes_promises_no_more_than_it_has_seen():
    feed = StepSource(SCHEMA, n_splits=2)
    reader = live(feed, idle_timeout_s=5.0)
    feed.push(rows(4), split=1)
    poll(reader, 0.0)
    feed.push(rows(10))
    poll(reader, 6.0)
    assert reader.mark == 10

    feed.push(rows(5), split=1)
    poll(reader, 7.0)

    assert reader.mark == 5


def test_time_stands_still_when_one_split_has_ended_and_the_other_is_idle():
    feed = StepSource(SCHEMA, n_splits=2)
    reader = live(feed, idle_timeout_s=5.0)
    feed.push(rows(10))
    feed.end(split=0)
    poll(reader, 0.0)

    poll(reader, 6.0)

    assert not reader.ended
    assert reader.mark is None


class Waking(StepSource):
    """A source whose readers say that this descriptor wakes."""

    def __init__(self, number):
        super().__init__(SCHEMA)
        self._number = number

    def open(self, split, position=0):
        reader = super().open(split, position)
        reader.wake_descriptor = lambda: self._number
        return reader


@pytest.mark.parametrize(
    ("number", "descriptors"), [(7, [7]), (None, []), (-1, []), (0, [0]), (2**31 - 1, [2**31 - 1])]
)
def test_a_descriptor_wakes_unless_it_is_none_or_closed(number, descriptors):
    reader = live(Waking(number))

    assert reader.descriptors == descriptors
    assert reader.wakes == bool(descriptors)


@pytest.mark.parametrize("number", ["7", 1.5, 2**31, object()])
def test_what_is_no_descriptor_is_refused_by_name(number):
    with pytest.raises(ConnectorError, match=r"0: wake_descriptor\(\) returned .*fileno"):
        _ = live(Waking(number)).descriptors


def test_without_a_timeout_a_silent_split_holds_time_back_for_ever():
    reader = live(StepSource(SCHEMA))

    poll(reader, 1e9)

    assert not reader.is_idle


def test_a_live_source_has_ended_when_every_split_has():
    feed = StepSource(SCHEMA, n_splits=2)
    reader = live(feed)
    feed.push(rows(3))
    feed.end(split=0)
    feed.push(rows(1), split=1)
    poll(reader, 0.0)
    poll(reader, 0.0)
    assert not reader.ended
    assert reader.mark == 1

    feed.end()
    poll(reader, 0.0)

    assert reader.ended
    assert not reader.is_idle
    assert reader.mark == MAX_TIME


def test_a_rank_without_live_splits_has_ended_and_is_not_idle():
    reader = LiveReader(spec_of(StepSource(SCHEMA)), [], 0.0)

    assert reader.ended
    assert not reader.is_idle
    assert reader.mark == MAX_TIME


def test_closing_releases_what_is_open():
    closed = []

    class Reader:
        position = 0

        def read(self, max_rows):
            return None

        def close(self):
            closed.append(1)

    feed = StepSource(SCHEMA, n_splits=2)
    feed.open = lambda split, position=0: Reader()
    reader = live(feed)

    reader.close()

    assert closed == [1, 1]
