"""The kit that users test with."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.testing import ListSink, ListSource, ManualClock, StepSource, assert_same_rows

SCHEMA = pa.schema({"x": pa.int64()})


# -- comparing ----------------------------------------------------------------------------

rows = st.lists(
    st.fixed_dictionaries(
        {
            "key": st.none() | st.text(max_size=2),
            "n": st.none() | st.integers(0, 3),
            "value": st.none() | st.floats(-10, 10) | st.just(float("nan")),
        }
    ),
    max_size=8,
)
TYPES = pa.schema({"key": pa.string(), "n": pa.int64(), "value": pa.float64()})


@given(rows, st.randoms())
def test_any_order_of_the_same_rows_is_the_same(given_rows, random):
    other = random.sample(given_rows, len(given_rows))
    tables = [pa.Table.from_pylist(some, schema=TYPES) for some in (given_rows, other)]

    assert_same_rows(*tables)


@given(rows.filter(bool), st.data())
def test_a_row_more_or_less_is_seen(given_rows, data):
    place = data.draw(st.integers(0, len(given_rows) - 1))
    fewer = given_rows[:place] + given_rows[place + 1 :]
    all_rows, some_rows = (pa.Table.from_pylist(r, schema=TYPES) for r in (given_rows, fewer))

    with pytest.raises(AssertionError, match=r"0 missing \(-\), 1 too many \(\+\)"):
        assert_same_rows(all_rows, some_rows)
    with pytest.raises(AssertionError, match=r"1 missing \(-\), 0 too many \(\+\)"):
        assert_same_rows(some_rows, all_rows)


def test_the_difference_shows_the_rows():
    with pytest.raises(AssertionError) as caught:
        assert_same_rows({"k": ["a", "b"], "v": [1.0, 2.0]}, {"k": ["a", "b"], "v": [1.0, 2.5]})

    assert str(caught.value).splitlines() == [
        "rows differ: got 2 rows, expected 2; 1 missing (-), 1 too many (+)",
        "    (k, v)",
        "  - ('b', 2.5)",
        "  + ('b', 2.0)",
    ]


def test_a_long_difference_is_cut():
    with pytest.raises(AssertionError, match=r"\+ \.\.\. and 90 more"):
        assert_same_rows({"x": list(range(100))}, {"x": pa.array([], pa.int64())})


def test_other_columns_are_named():
    with pytest.raises(AssertionError, match=r"columns differ: got \['x'\], expected \['y'\]"):
        assert_same_rows({"x": [1]}, {"y": [1]})


def test_floats_may_differ_as_far_as_they_may():
    ours = {"k": ["a", "a"], "v": [1.0 + 1e-9, 100.0]}
    theirs = {"k": ["a", "a"], "v": [100.0, 1.0]}

    assert_same_rows(ours, theirs, rtol=1e-8)
    assert_same_rows(ours, theirs, atol=1e-8)
    with pytest.raises(AssertionError):
        assert_same_rows(ours, theirs)


def test_rows_that_cross_within_the_tolerance_find_each_other():
    ours = {"a": [1.0, 1.0 + 1e-12], "b": [5.0, 7.0]}
    theirs = {"a": [1.0 + 1e-12, 1.0], "b": [5.0, 7.0]}

    assert_same_rows(ours, theirs, rtol=1e-9)


def test_integers_and_floats_of_one_value_are_equal_and_lists_compare():
    assert_same_rows({"n": [1, 2], "l": [[1], []]}, {"n": [2.0, 1.0], "l": [[], [1]]})


# -- sources ------------------------------------------------------------------------------


def read_all(reader, max_rows):
    batches = []
    while (chunk := reader.read(max_rows)) is not None and chunk.scanned:
        batches.append(chunk.batch["x"].to_pylist())
    return batches


@given(
    st.lists(st.integers(0, 5), max_size=5),
    st.integers(1, 7),
    st.integers(0, 25),
)
def test_a_list_source_reads_full_batches_from_any_position(sizes, max_rows, position):
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    split = [{"x": list(range(s, s + n))} for s, n in zip(starts, sizes, strict=True)]
    source = ListSource([split], schema=SCHEMA)
    position = min(position, sum(sizes))

    batches = read_all(source.open(source.list_splits()[0], position), max_rows)

    assert [x for batch in batches for x in batch] == list(range(position, sum(sizes)))
    assert all(len(batch) == max_rows for batch in batches[:-1])


def test_an_error_is_raised_after_the_rows_before_it_and_not_again_after_a_restart():
    source = ListSource([[{"x": [1, 2]}, OSError("cut off"), {"x": [3]}]])
    (split,) = source.list_splits()
    reader = source.open(split)

    assert reader.read(10).batch["x"].to_pylist() == [1, 2]
    with pytest.raises(OSError, match="cut off"):
        reader.read(10)
    assert source.open(split, 3).read(10) is None


def test_a_list_source_may_know_its_times():
    source = ListSource([[{"x": [5, 3]}, {"x": [9]}], []], event_time="x", schema=SCHEMA)

    first, second = source.list_splits()

    assert (first.first_time, first.last_time, first.n_rows) == (3, 9, 3)
    assert (second.first_time, second.last_time) == (None, None)


def test_rows_of_another_schema_are_refused():
    feed = StepSource(SCHEMA)

    with pytest.raises(ValueError, match="rows have the schema"):
        feed.push(pa.record_batch({"y": [1]}))
    with pytest.raises(ValueError, match="give schema="):
        ListSource([[]])


def test_a_step_source_ends_when_told_and_gives_nothing_before():
    feed = StepSource(SCHEMA, n_splits=2)
    readers = [feed.open(split) for split in feed.list_splits()]

    assert readers[0].read(10).scanned == 0
    feed.push([{"x": 1}])
    feed.end(split=0)
    assert readers[0].read(10).batch["x"].to_pylist() == [1]
    assert readers[0].read(10) is None
    assert readers[1].read(10).scanned == 0
    feed.end()
    assert readers[1].read(10) is None


# -- sink and clock -----------------------------------------------------------------------


def test_a_list_sink_tells_written_from_committed():
    sink = ListSink()
    sink.begin(SCHEMA, 0, 1, 0)

    sink.write(pa.record_batch({"x": [1]}))

    assert sink.written == [{"x": 1}]
    assert sink.committed == []
    sink.commit(sink.prepare())
    assert sink.committed == [{"x": 1}]
    assert sink.calls == ["begin", "prepare", "commit"]


def test_a_list_sink_fails_where_it_is_told_to():
    sink = ListSink(fail_in="write", error=OSError("full"))

    with pytest.raises(OSError, match="full"):
        sink.write(pa.record_batch({"x": [1]}))


def test_a_manual_clock_moves_when_it_is_told_to_and_never_back():
    clock = ManualClock(5.0, turn_s=0.25)

    clock.end_turn()
    clock.advance(1.0)

    assert clock() == 6.25
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)
