"""Deduplicate and rate limit keep the rows that a loop over all rows in event order keeps."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hpcstream as hs
from hpcstream.columns.event_time import MAX_TIME
from hpcstream.operators.keyed.kept_rows_spec import DeduplicateSpec, RateLimitSpec
from hpcstream.testing import assert_same_rows, run_events, run_ranks
from tests.unit.keyed import naive_keyed as naive
from tests.unit.keyed.ordered_events import batch_of, check, events, opened, outputs


@settings(max_examples=40)
@given(events(), st.none() | st.integers(1, 20))
def test_deduplicate_keeps_what_naive_keeps(events, within):
    spec = DeduplicateSpec(("key",), "ms", "event", within)
    check(spec, events, lambda rows: naive.deduplicate(rows, "key", within))


@settings(max_examples=40)
@given(events(), st.integers(1, 5), st.integers(1, 20), st.integers(1, 5))
def test_rate_limit_lets_through_what_naive_lets_through(events, n, per, burst):
    spec = RateLimitSpec(("key",), "ms", "event", n, per, burst)
    check(spec, events, lambda rows: naive.rate_limit(rows, "key", n, per, burst))


@settings(max_examples=40)
@given(events())
def test_keys_of_several_columns_are_told_apart(events):
    spec = DeduplicateSpec(("key", "n"), "ms", "event", 7)

    def expected(rows):
        paired = [{**row, "pair": (row["key"], row["n"])} for row in rows]
        kept = naive.deduplicate(paired, "pair", 7)["main"]
        return {"main": [{n: v for n, v in row.items() if n != "pair"} for row in kept]}

    check(spec, events, expected)


def test_in_order_of_arrival_rows_leave_at_once_and_late_ones_are_handled():
    rows = [("a", 1, 0.5, time, number, time, number) for number, time in enumerate([50, 40, 70])]
    given_events = [batch_of(rows[:1]), 45, batch_of(rows[1:]), MAX_TIME]
    spec = DeduplicateSpec(("key",), "ms", "arrival", 10)

    by_event = run_events(opened(spec), given_events)

    assert [[row["t"] for row in rows] for rows in by_event] == [[50], [], [70], []]
    assert run_events(opened(spec), given_events, restart=True) == by_event


def test_what_is_kept_of_keys_is_forgotten_in_time():
    spec = DeduplicateSpec(("key",), "ms", "event", 100)
    operator = opened(spec)()
    sizes, n_keys = [], []
    for step in range(200):
        rows = [(f"key {step} {i}", 1, 0.5, step * 50, i, step * 50, i) for i in range(500)]
        list(operator.process_batch(batch_of(rows)))
        list(operator.process_watermark(step * 50))
        sizes.append(operator.state_bytes())
        n_keys.append(operator.n_keys_held)
    assert max(n_keys) == 2 * 500
    assert max(sizes[100:]) <= 1.05 * max(sizes[:100])


def table(n_rows=20_000):
    random = np.random.default_rng(3)
    return pa.table(
        {
            "t": np.arange(n_rows) + random.integers(0, 50, n_rows),
            "key": pa.array([f"k{i}" for i in random.integers(0, 500, n_rows)]),
            "id": np.arange(n_rows),
        }
    )


@pytest.mark.parametrize("n_ranks", [1, 2, 3])
@pytest.mark.parametrize("batch_rows", [700, 5000])
def test_a_job_gives_the_first_row_of_each_key_as_duckdb_does(n_ranks, batch_rows):
    rows = table()
    query = "select * exclude r from (select *, row_number() over (partition by key order by t, id) r from rows) where r = 1"  # noqa: E501

    def build():
        job = hs.Job("first")
        source = job.from_batches(rows.to_batches(max_chunksize=1000)).with_event_time(
            "t", "50ms", unit="ms"
        )
        return job, source.key_by("key").deduplicate(None).collect()

    found = run_ranks(n_ranks, build, batch_rows=batch_rows, reproducible=True).table

    assert_same_rows(found, duckdb.sql(query).to_arrow_table())


@pytest.mark.parametrize("n_ranks", [1, 3])
def test_limited_rows_are_a_stream_of_their_own(n_ranks):
    rows = table(5000)

    def build():
        job = hs.Job("limits")
        source = job.from_batches(rows.to_batches(max_chunksize=500))
        source = source.with_event_time("t", "50ms", unit="ms")
        limited = source.key_by("key").rate_limit(1, "900ms")
        return job, [limited.collect(), limited.side("limited").collect()]

    handles = run_ranks(n_ranks, build, batch_rows=600).handles[0]
    found = [one.table for one in handles]
    in_order = sorted(rows.to_pylist(), key=lambda row: (row["t"], row["id"]))
    expected = naive.rate_limit(in_order, "key", 1, 900, 1)
    for one, name in zip(found, ("main", "limited"), strict=True):
        assert one.num_rows > 500
        assert_same_rows(one, pa.Table.from_pylist(expected[name], rows.schema))


def test_arrival_is_refused_where_every_run_must_give_the_same():
    job = hs.Job("arrival")
    rows = job.from_batches(table(10)).with_event_time("t", unit="ms")
    rows.key_by("key").deduplicate("1s", order="arrival").collect()
    with pytest.raises(hs.PlanError, match="'deduplicate by key within 1s, as rows arrive"):
        run_ranks(1, lambda: (job, None), reproducible=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda keyed: keyed.deduplicate("0s"), "within='0s'.*must be positive"),
        (lambda keyed: keyed.deduplicate("1s", keep="last"), "keep='last'.*takes 'first'"),
        (lambda keyed: keyed.deduplicate("1s", order="x"), "order='x'.*'event' or 'arrival'"),
        (lambda keyed: keyed.rate_limit(0, "1s"), "rows=0.*from 1 to"),
        (lambda keyed: keyed.rate_limit(5, "1s", burst=1.5), "burst=1.5.*from 1 to"),
        (lambda keyed: keyed.rate_limit(5, "1us"), "not a whole number of ms"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(call, message):
    rows = hs.Job("refused").from_batches(table(10)).with_event_time("t", unit="ms")
    with pytest.raises(hs.PlanError, match=message):
        call(rows.key_by("key"))


def test_event_time_is_needed():
    rows = hs.Job("timeless").from_batches(table(10))
    with pytest.raises(hs.PlanError, match=r"deduplicate\(\) needs event time"):
        rows.key_by("key").deduplicate("1s")


def test_outputs_are_told_apart():
    assert outputs([{"a": 1, "side output": "late"}, {"a": 2, "__x": 3}]) == {
        "late": [{"a": 1}],
        "main": [{"a": 2}],
    }
