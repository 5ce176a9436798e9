"""Sessions against a twin that keeps every row, restarted on however many instances, and SQL."""

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_sessions import NaiveSessions

import hpcstream as hs
from hpcstream import col
from hpcstream.columns.event_time import MAX_TIME, TIME_COLUMN
from hpcstream.operators.base import SideOutput
from hpcstream.operators.windows.assigners.sessions import SessionWindows
from hpcstream.operators.windows.local_sessions import LocalSessionAggregate
from hpcstream.operators.windows.sessions import SessionAggregate
from hpcstream.state.arrays import HeapAllocator
from hpcstream.testing import run_operator, run_ranks
from tests.unit.windows.instances import (
    FUNCTIONS,
    Instances,
    batch_of,
    check_against_twin,
    in_order,
    spec_of,
)

rows_of_batch = st.lists(
    st.tuples(st.none() | st.integers(-2, 3), st.integers(-30, 90), st.none() | st.integers(-5, 5)),
    max_size=12,
)
event_lists = st.lists(rows_of_batch | st.integers(-40, 100), max_size=12)
gaps = st.sampled_from([1, 2, 3, 5, 10, 25])


@settings(max_examples=200)
@given(
    events=event_lists,
    gap=gaps,
    function=st.sampled_from(["sum", "last", "median"]),
    sizes=st.lists(st.integers(1, 3), min_size=14, max_size=14),
)
def test_sessions_are_those_of_a_twin_whenever_restored_on_however_many_ranks(
    events, gap, function, sizes
):
    reference = NaiveSessions(gap)
    spec = spec_of(SessionWindows(gap), ("count_rows", function))
    instances = Instances(spec, sizes[0], make=SessionAggregate)
    instances = check_against_twin(reference, instances, events, sizes[1:], function)
    assert sum(operator.n_entries for operator in instances.operators) == 0


@settings(max_examples=100)
@given(events=event_lists, gap=gaps)
def test_restarting_after_every_event_changes_no_row_and_no_order(events, gap):
    spec = spec_of(SessionWindows(gap), FUNCTIONS)
    batches = [
        event if isinstance(event, int) else batch_of(in_order(event, 0))
        for event in [*events, MAX_TIME]
        if event != []
    ]

    def make():
        return SessionAggregate(spec, HeapAllocator())

    assert run_operator(make, batches, restart=True) == run_operator(make, batches)


@settings(max_examples=100)
@given(
    rows=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 60)), max_size=40),
    cuts=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    delay=st.integers(0, 20),
    gap=gaps,
    seed=st.randoms(use_true_random=False),
)
def test_disorder_within_the_delay_and_other_cuts_change_nothing(rows, cuts, delay, gap, seed):
    spec = spec_of(SessionWindows(gap), ("count_rows",))
    in_time = sorted(((key, time, 0, 0) for key, time in rows), key=lambda row: row[1])
    disordered = sorted(in_time, key=lambda row: row[1] + seed.randint(0, delay))

    assert sessions_of(spec, disordered, cuts, delay) == sessions_of(spec, in_time, [1], 0)


def sessions_of(spec, rows, cuts, delay):
    instances = Instances(spec, 1, make=SessionAggregate)
    found, at, cut = {}, 0, 0
    while at < len(rows):
        part = rows[at : at + cuts[cut % len(cuts)]]
        instances.add(part)
        at, cut = at + len(part), cut + 1
        found |= instances.advance(max(time for _, time, _, _ in rows[:at]) - delay)
    found |= instances.advance(MAX_TIME)
    assert instances.late == []
    return found


@settings(max_examples=150)
@given(
    rows=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(0, 90)), max_size=40),
    cuts=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    delay=st.integers(0, 20),
    gap=gaps,
)
def test_two_local_stages_ship_all_that_ends_a_session_in_time(rows, cuts, delay, gap):
    """Rows of two ranks, each in order but for the delay; the watermark is the lesser of both."""
    spec = spec_of(SessionWindows(gap), ("count_rows", "sum"))
    whole, final = (Instances(spec, 1, make=SessionAggregate) for _ in range(2))
    locals_ = [LocalSessionAggregate(spec, HeapAllocator()) for _ in range(2)]
    ranks = [sorted((t, key) for rank, key, t in rows if rank == own) for own in range(2)]
    expected, found = {}, {}
    for cut in [*cuts, *[5] * 9]:
        marks = []
        for rank, local in enumerate(locals_):
            part, ranks[rank] = ranks[rank][:cut][::-1], ranks[rank][cut:]
            mark = min((t for t, _ in ranks[rank]), default=200) - delay
            if part:
                given_rows = [(key, t, 0, 1) for t, key in part]
                whole.add(given_rows)
                forward(local.process_batch(batch_of(given_rows)), final.operators[0])
            forward(local.process_watermark(mark), final.operators[0])
            marks.append(mark)
        found |= final.advance(min(marks))
        expected |= whole.advance(min(marks))
        assert found == expected
    assert final.advance(MAX_TIME) == whole.advance(MAX_TIME)
    assert final.late == whole.late == []


def forward(emitted, operator):
    for each in emitted:
        if isinstance(each, pa.RecordBatch):
            list(operator.process_batch(each, 1))
        elif isinstance(each, SideOutput):
            list(operator.process_batch(each.batch, 0))


def test_state_follows_the_keys_of_two_gaps():
    spec = spec_of(SessionWindows(10), ("count_rows",))
    operator = SessionAggregate(spec, HeapAllocator())
    sizes = []
    for step in range(600):
        rows = [(key, 7 * step, 0, 0) for key in [*range(20 * step, 20 * step + 1000), -1]]
        list(operator.process_batch(batch_of(rows)))
        list(operator.process_watermark(7 * step))
        assert operator.n_entries <= 3 * 1001
        sizes.append(operator.state_bytes())
    assert max(sizes[300:]) <= 1.05 * max(sizes[:300])
    (last,) = [row for part in operator.process_watermark(MAX_TIME) for row in part.to_pylist()
               if row["key"] == -1]  # fmt: skip
    assert (last["window_start"], last["count_rows"]) == (0, 600)


random = np.random.default_rng(5)
STEPS = random.choice([1, 3, 40, 900], 6_000, p=[0.5, 0.3, 0.15, 0.05])
ROWS = pa.table(
    {
        "t": np.cumsum(STEPS),
        "key": pa.array([f"user-{i}" if i else None for i in random.integers(0, 60, 6_000)]),
        "x": random.integers(0, 100, 6_000),
    }
)
SQL = """
    WITH marked AS (SELECT *, coalesce(t - lag(t) OVER keys >= 700, true) AS begins FROM rows
        WINDOW keys AS (PARTITION BY key ORDER BY t)),
    numbered AS (SELECT *, sum(begins::INT) OVER (PARTITION BY key ORDER BY t) AS session
        FROM marked)
    SELECT key, min(t)::BIGINT, (max(t) + 700)::BIGINT, count(*), sum(x)::BIGINT, median(x), max(t)
    FROM numbered GROUP BY key, session"""


def job_of(windows_of, **aggregates):
    def build():
        job = hs.Job("sessions")
        rows = job.from_batches(
            ROWS.to_batches(max_chunksize=999), event_time="t", event_time_unit="ms"
        )
        results = windows_of(rows).agg(
            n=hs.count(), total=col("x").sum(), **aggregates, last=col("t").max()
        )
        return job, results.collect()

    return build


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("keeps_values", [False, True])
def test_jobs_give_the_rows_of_sql(ranks, local, keeps_values):
    more = {"middle": col("x").median()} if keeps_values else {}
    build = job_of(lambda rows: rows.key_by("key").window(hs.session("700ms")), **more)

    done = run_ranks(ranks, build, batch_rows=700, local_aggregation=local)

    expected = answer("rows")
    if not keeps_values:
        expected = [(*row[:5], row[6]) for row in expected]
    assert rows_of(done.table) == expected
    assert done.result.late_rows == 0


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("keeps_values", [False, True])
def test_sessions_of_all_rows_are_those_of_sql(ranks, keeps_values):
    more = {"middle": col("x").median()} if keeps_values else {}
    build = job_of(lambda rows: rows.window_all(hs.session("700ms")), **more)

    found = run_ranks(ranks, build, batch_rows=700).table

    expected = [row[1:] for row in answer("(SELECT t, 1 AS key, x FROM rows) AS rows")]
    if not keeps_values:
        expected = [(*row[:4], row[5]) for row in expected]
    assert rows_of(found) == expected


def rows_of(table):
    return sorted((tuple(row.values()) for row in table.to_pylist()), key=repr)


def answer(source):
    connection = duckdb.connect()
    connection.register("rows", ROWS)
    return sorted(connection.sql(SQL.replace("FROM rows", f"FROM {source}")).fetchall(), key=repr)


def test_a_reproducible_job_gives_the_same_bits_on_any_number_of_ranks():
    tables = []
    for ranks in (1, 2, 3):
        build = job_of(
            lambda rows: (
                rows.with_columns(y=col("x") / 7).key_by("key").window(hs.session("700ms"))
            ),
            mean=(col("x") / 7).mean(),
        )
        table = run_ranks(ranks, build, batch_rows=700, reproducible=True).table
        tables.append(table.sort_by([("key", "ascending"), ("window_start", "ascending")]))
    assert tables[0].combine_chunks().equals(tables[1].combine_chunks())
    assert tables[0].combine_chunks().equals(tables[2].combine_chunks())


def test_a_session_cannot_be_opened_again():
    job = hs.Job("refused")
    rows = job.from_batches(ROWS, event_time="t", event_time_unit="ms")
    windows = rows.key_by("key").window(hs.session("1s"))
    with pytest.raises(hs.PlanError, match="larger watermark_delay"):
        windows.allowed_lateness("1s")


@pytest.mark.parametrize("gap", ["0s", "-1s"])
def test_a_gap_must_be_positive(gap):
    with pytest.raises(ValueError, match="gap must be positive"):
        hs.session(gap)


def test_late_rows_come_out_as_they_came():
    spec = spec_of(SessionWindows(10), ("count_rows",))
    events = [batch_of([(1, 0, 0, 5)]), 15, batch_of([(1, 5, 1, 6), (1, 6, 2, 7), (None, 1, 3, 8)])]

    rows = run_operator(lambda: SessionAggregate(spec, HeapAllocator()), [*events, MAX_TIME])

    late = [row for row in rows if "side output" in row]
    assert [(row[TIME_COLUMN], row["x"]) for row in late] == [(5, 6), (1, 8)]
    sessions = [row for row in rows if "side output" not in row]
    assert [(row["window_start"], row["window_end"]) for row in sessions] == [(0, 10), (6, 16)]


@settings(max_examples=25)
@given(
    steps=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 15)), min_size=1, max_size=60),
    ranks=st.integers(1, 4),
    keyed=st.booleans(),
    local=st.booleans(),
    seed=st.integers(0, 99),
)
def test_each_row_is_in_one_session_or_late(steps, ranks, keyed, local, seed):
    times = np.cumsum([step for step, _ in steps]) - [back for _, back in steps]
    table = pa.table({"t": times, "key": np.arange(len(times)) % 3})

    def build():
        job = hs.Job("accounts")
        batches = table.to_batches(max_chunksize=7)
        rows = job.from_batches(
            batches, event_time="t", event_time_unit="ms", watermark_delay=f"{seed % 5}ms"
        )
        window = hs.session("4ms")
        windows = rows.key_by("key").window(window) if keyed else rows.window_all(window)
        result = windows.agg(n=hs.count())
        return job, Both(result.collect(), result.late().collect())

    done = run_ranks(ranks, build, batch_rows=3, local_aggregation=local, seed=seed, max_delay=4)

    sessions, late = done.handles[0].tables()
    assert sum(sessions["n"].to_pylist()) + late.num_rows == len(times)
    assert done.result.late_rows == late.num_rows
    assert all(row["window_end"] >= row["window_start"] + 4 for row in sessions.to_pylist())


class Both:
    def __init__(self, *collected):
        self._collected = collected

    def tables(self):
        return [each.table for each in self._collected]
