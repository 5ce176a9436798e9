"""Cumulating windows against a twin that keeps every row, restarted on however many ranks."""

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_window_set import NaiveWindowSet

import hpcstream as hs
from hpcstream import col
from hpcstream.operators.windows.assigners.fixed import CumulativeWindows
from hpcstream.testing import run_ranks
from tests.unit.windows.instances import Instances, check_against_twin, spec_of

rows_of_batch = st.lists(
    st.tuples(st.none() | st.integers(-2, 3), st.integers(-30, 60), st.none() | st.integers(-5, 5)),
    max_size=12,
)
event_lists = st.lists(rows_of_batch | st.integers(-40, 80), max_size=10)
assigners = st.builds(
    CumulativeWindows,
    st.sampled_from([4, 12, 24]),
    st.sampled_from([1, 2, 4]),
    st.integers(-5, 5),
    st.booleans(),
)


def naive(assigner, lateness):
    def windows_of(time):
        start = (time - assigner.offset) // assigner.size * assigner.size + assigner.offset
        ends = range(start + assigner.step, start + assigner.size + 1, assigner.step)
        return [(start, end) for end in ends if time < end]

    changes = (lambda start, end: end - assigner.step) if assigner.only_changed else None
    return NaiveWindowSet(windows_of, lateness, changes)


@settings(max_examples=200)
@given(
    events=event_lists,
    assigner=assigners,
    lateness=st.sampled_from([0, 0, 3, 20]),
    function=st.sampled_from(["sum", "median"]),
    sizes=st.lists(st.integers(1, 3), min_size=12, max_size=12),
)
def test_results_are_those_of_a_twin_whenever_restored_on_however_many_ranks(
    events, assigner, lateness, function, sizes
):
    reference = naive(assigner, lateness)
    instances = Instances(spec_of(assigner, ("count_rows", function), lateness), sizes[0])
    check_against_twin(reference, instances, events, sizes[1:], function)


ROWS = pa.table(
    {
        "t": [(i * 7919) % 5000 for i in range(20_000)],
        "key": [f"key-{i * i % 37}" for i in range(20_000)],
        "x": [i % 101 for i in range(20_000)],
    }
).sort_by("t")

SQL = """
    WITH steps AS (
        SELECT key, t // 1000 * 1000 AS window_start, t // 50 AS step, count(*) AS n,
            sum(x) AS total, max(x) AS most FROM rows GROUP BY ALL),
    ends AS (
        SELECT DISTINCT key, window_start, k FROM steps, generate_series(1, 20) AS ks(k))
    SELECT key, window_start, window_start + 50 * k AS window_end, sum(n)::BIGINT,
        sum(total)::BIGINT, max(most) FROM ends JOIN steps USING (key, window_start)
    WHERE step < (window_start + 50 * k) // 50 GROUP BY ALL ORDER BY ALL"""
CHANGED = " HAVING max(step) = (window_start + 50 * k) // 50 - 1 ORDER BY ALL"


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("only_changed", [False, True])
@pytest.mark.parametrize("local", [False, True])
def test_jobs_give_the_rows_of_sql(ranks, only_changed, local):
    def build():
        job = hs.Job("cumulate")
        rows = job.from_batches(
            ROWS.to_batches(max_chunksize=999), event_time="t", event_time_unit="ms"
        )
        window = hs.cumulate("1s", "50ms", only_changed=only_changed)
        windows = rows.key_by("key").window(window)
        return job, windows.agg(n=hs.count(), total=col("x").sum(), most=col("x").max()).collect()

    found = run_ranks(ranks, build, batch_rows=700, local_aggregation=local).table

    connection = duckdb.connect()
    connection.register("rows", ROWS)
    expected = connection.sql(SQL.replace(" ORDER BY ALL", CHANGED) if only_changed else SQL)
    assert sorted(found.to_pylist(), key=lambda r: list(r.values())) == [
        dict(zip(found.column_names, row, strict=True)) for row in expected.fetchall()
    ]


def test_without_a_key_the_totals_of_all_ranks_cumulate():
    def build():
        job = hs.Job("cumulate all")
        rows = job.from_batches(
            ROWS.to_batches(max_chunksize=999), event_time="t", event_time_unit="ms"
        )
        return job, rows.window_all(hs.cumulate("1s", "50ms")).agg(n=hs.count()).collect()

    found = run_ranks(3, build, batch_rows=700).table.to_pylist()

    times = ROWS["t"].to_pylist()
    assert len(found) == 100
    for row in found:
        start, end = row["window_start"], row["window_end"]
        assert row["n"] == sum(start <= t < end for t in times)


def test_only_changed_windows_need_a_key():
    job = hs.Job("refused")
    rows = job.from_batches(ROWS, event_time="t", event_time_unit="ms")
    with pytest.raises(hs.PlanError, match="only_changed=True needs a key"):
        rows.window_all(hs.cumulate("1s", "50ms", only_changed=True))


@pytest.mark.parametrize(
    ("size", "step", "message"),
    [
        ("1h", "7min", "size must be a whole number of steps"),
        ("1h", "2h", "size='1h', step='2h'.: size must be a whole number of steps"),
        ("1h", "0s", "step must be positive"),
    ],
)
def test_windows_that_do_not_fit_their_steps_are_refused(size, step, message):
    with pytest.raises(ValueError, match=message):
        hs.cumulate(size, step)
