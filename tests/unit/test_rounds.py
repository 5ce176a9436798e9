"""Whole jobs on simulated ranks: any graph, any timing, any number of ranks."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hpcstream as hs
from hpcstream import col
from hpcstream.testing import (
    ListSink,
    ListSource,
    ManualClock,
    Stall,
    StepSource,
    assert_same_rows,
    run_ranks,
    start_ranks,
)

N_ROWS = 600
SCHEMA = pa.schema({"x": pa.int64()})
ALL_ROWS = {"x": list(range(N_ROWS))}


def numbers(job, n_batches=12):
    """Return a stream of 0 to N_ROWS in batches of even length."""
    step = N_ROWS // n_batches
    batches = [{"x": list(range(start, start + step))} for start in range(0, N_ROWS, step)]
    return job.from_batches([pa.record_batch(batch) for batch in batches])


def straight():
    job = hs.Job("straight")
    return job, numbers(job).filter(col("x") >= 0).collect()


def rebalanced():
    job = hs.Job("rebalanced")
    return job, numbers(job).rebalance().with_columns(x=col("x") + 1 - 1).rebalance().collect()


def diamond():
    """A stream used twice; the ways differ in length, then meet."""
    job = hs.Job("diamond")
    stream = numbers(job)
    even = stream.filter(col("x") % 2 == 0)
    odd = stream.filter(col("x") % 2 == 1).rebalance().rebalance()
    return job, even.union(odd).collect()


def skip_edges():
    """One input of the union is the source itself, another is three exchanges behind."""
    job = hs.Job("skip edges")
    stream = numbers(job)
    short = stream.filter(col("x") < 100)
    middle = stream.filter((col("x") >= 100) & (col("x") < 300)).rebalance()
    far = stream.filter(col("x") >= 300).rebalance().rebalance().rebalance()
    return job, far.union(short, middle).collect()


def two_sources():
    job = hs.Job("two sources")
    low = numbers(job, 12).filter(col("x") < 250)
    high = numbers(job, 3).filter(col("x") >= 250).rebalance()
    return job, low.union(high).rebalance().collect()


def self_union():
    job = hs.Job("self union")
    stream = numbers(job).rebalance()
    twice = stream.union(stream)
    return job, twice.collect()


def grouped():
    """Some ranks only produce, some only consume, one does both."""
    job = hs.Job("groups")
    read = numbers(job)
    far = read.on(ranks=[2, 3]).with_columns(x=col("x") * 2)
    return job, far.on(ranks=[3, 4]).with_columns(x=col("x").cast("int64") - 0).collect()


GRAPHS = {
    straight: ALL_ROWS,
    rebalanced: ALL_ROWS,
    diamond: ALL_ROWS,
    skip_edges: ALL_ROWS,
    two_sources: ALL_ROWS,
    self_union: {"x": [*range(N_ROWS), *range(N_ROWS)]},
    grouped: {"x": list(range(0, 2 * N_ROWS, 2))},
}

graphs = pytest.mark.parametrize("build", GRAPHS, ids=lambda build: build.__name__)


@graphs
@given(
    n_ranks=st.integers(1, 6),
    seed=st.integers(0, 2**16),
    max_delay=st.sampled_from([0, 1, 30]),
    rounds_in_flight=st.sampled_from([1, 2, 4]),
    batch_rows=st.sampled_from([7, 50, 10_000]),
)
@settings(max_examples=6)
def test_every_graph_gives_its_rows_on_any_ranks(build, **options):
    run = run_ranks(options.pop("n_ranks"), build, **options)

    assert_same_rows(run.table, GRAPHS[build])


@graphs
@pytest.mark.parametrize("n_ranks", [2, 3])
def test_the_order_of_rows_does_not_depend_on_timing(build, n_ranks):
    runs = [
        run_ranks(n_ranks, build, seed=seed, max_delay=delay, batch_rows=40, step_bytes=300)
        for seed, delay in [(0, 0), (1, 0), (2, 25)]
    ]

    for run in runs[1:]:
        assert run.table.equals(runs[0].table)
        assert run.result.rows_in == runs[0].result.rows_in


def test_rounds_in_flight_change_no_row():
    runs = [run_ranks(3, skip_edges, rounds_in_flight=k, batch_rows=40) for k in (1, 2, 4)]

    assert runs[0].table.equals(runs[1].table)
    assert runs[0].table.equals(runs[2].table)


@pytest.mark.parametrize("step_bytes", [16, 400])
def test_a_flat_map_that_blows_up_goes_in_many_steps(step_bytes):
    def build():
        job = hs.Job("blow up")
        stream = job.from_batches([pa.record_batch({"x": [start]}) for start in range(4)])
        copies = stream.flat_map(lambda row: [{"x": 100 * row["x"] + i} for i in range(100)])
        return job, copies.rebalance().collect()

    run = run_ranks(3, build, step_bytes=step_bytes, max_delay=3, rounds_in_flight=1)

    assert_same_rows(run.table, {"x": list(range(400))})


@pytest.mark.parametrize("n_ranks", [1, 2, 3, 6])
def test_ranks_without_splits_end_with_the_others(n_ranks):
    def build():
        job = hs.Job("one split")
        return job, job.from_batches([pa.record_batch(ALL_ROWS)]).rebalance().collect()

    assert_same_rows(run_ranks(n_ranks, build, batch_rows=50).table, ALL_ROWS)


def test_a_job_of_no_rows_ends():
    def build():
        job = hs.Job("nothing")
        return job, job.source(ListSource([], schema=SCHEMA)).rebalance().collect()

    run = run_ranks(3, build)

    assert run.table.num_rows == 0
    assert run.table.schema == SCHEMA
    assert run.result.rows_in == 0


def test_a_rank_that_runs_nothing_takes_part_in_control_only():
    def build():
        job = hs.Job("idle ranks")
        return job, numbers(job).on(ranks=1).filter(col("x") >= 0).collect()

    for n_ranks in (2, 3, 5):
        assert_same_rows(run_ranks(n_ranks, build, max_delay=4).table, ALL_ROWS)


@pytest.mark.parametrize("seed", range(4))
def test_a_rank_that_stands_still_delays_but_changes_nothing(seed):
    undisturbed = run_ranks(3, diamond, batch_rows=40)
    faults = [Stall(rank=rank, round=2 + rank, turns=300) for rank in range(3)]

    run = run_ranks(3, diamond, batch_rows=40, seed=seed, faults=faults)

    assert run.table.equals(undisturbed.table)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_sources_stop_when_a_rank_stands_still(k):
    """Neither peers nor the stalled rank's own part of the graph run away."""

    def build():
        job = hs.Job("throttled")
        return job, numbers(job).rebalance().collect()

    with start_ranks(
        3,
        build,
        batch_rows=5,
        rounds_in_flight=k,
        faults=[Stall(rank=1, round=3, turns=10_000)],
    ) as ranks:
        ranks.until(lambda: len(ranks.workers) == 3 and ranks.rounds[1] >= 3)
        for _ in range(3000):
            ranks._turns.step()
        at_first = [worker.tasks[0].next_round for worker in ranks.workers]

        assert max(at_first) <= at_first[1] + 2 * k
        assert_same_rows(ranks.finish().table, ALL_ROWS)


def test_rows_of_a_round_come_in_the_order_of_ranks():
    def build():
        job = hs.Job("order")
        splits = [[{"x": [10 * split + i]} for i in range(3)] for split in range(3)]
        return job, job.source(ListSource(splits)).collect()

    run = run_ranks(3, build, batch_rows=1, seed=8, max_delay=9)

    assert run.table["x"].to_pylist() == [0, 10, 20, 1, 11, 21, 2, 12, 22]


# -- live sources -------------------------------------------------------------------------

EVENTS = pa.schema({"t": pa.int64(), "x": pa.int64()})


def live_job(feed, sink, **options):
    def build():
        job = hs.Job("live")
        stream = job.source(feed, event_time="t", event_time_unit="ms", **options)
        stream.rebalance().sink(sink)
        return job

    return build


def fed(n_ranks, *, n_splits=2, idle_timeout="5s", **options):
    """Return a feed, a sink and the ranks of a live job, started."""
    feed, sink = StepSource(EVENTS, n_splits=n_splits), ListSink()
    build = live_job(feed, sink, idle_timeout=idle_timeout)
    ranks = start_ranks(n_ranks, build, clock=ManualClock(), progress=False, **options)
    ranks.settle()
    return feed, sink, ranks


def test_a_live_source_closes_a_round_when_linger_is_over():
    feed, sink, ranks = fed(2)
    with ranks:
        before = ranks.rounds
        feed.push({"t": [1], "x": [1]})
        ranks.settle()
        assert ranks.rounds == before

        ranks.advance(0.0011)

        assert ranks.rounds == [n + 1 for n in before]
        assert sink.written == [{"t": 1, "x": 1}]


def test_a_full_round_is_closed_at_once():
    feed, sink, ranks = fed(1, n_splits=1, batch_rows=3)
    with ranks:
        feed.push({"t": [1, 2, 3, 4], "x": [1, 2, 3, 4]})

        ranks.settle()

        assert [row["x"] for row in sink.written] == [1, 2, 3]


def test_silence_on_all_ranks_stretches_the_rounds_of_all():
    _, _, ranks = fed(3)
    with ranks:
        for _ in range(20):
            ranks.close_round()
        before = ranks.rounds

        for _ in range(15):
            ranks.advance(0.0011)

        assert ranks.rounds == before
        ranks.close_round()
        assert ranks.rounds == [n + 1 for n in before]


def test_a_rank_with_rows_wakes_the_ranks_that_rest():
    feed, sink, ranks = fed(3, n_splits=3)
    with ranks:
        for _ in range(20):
            ranks.close_round()
        before = ranks.rounds
        ranks.advance(0.005)
        assert ranks.rounds == before

        feed.push({"t": [7], "x": [7]}, split=1)
        ranks.settle()

        assert ranks.rounds == [n + 1 for n in before]
        assert sink.written == [{"t": 7, "x": 7}]


def test_all_ranks_follow_the_one_that_has_rows():
    feed, _, ranks = fed(3)
    with ranks:
        for _ in range(20):
            ranks.close_round()
        before = ranks.rounds

        for i in range(30):
            feed.push({"t": [i], "x": [i]})
            ranks.advance(0.0011)

        assert min(after - first for after, first in zip(ranks.rounds, before, strict=True)) >= 29


def watermarks(ranks):
    return [worker.tasks[-1].watermark for worker in ranks.workers]


@pytest.mark.parametrize("n_splits", [2, 3])
def test_silent_splits_let_time_pass_after_the_idle_timeout(n_splits):
    feed, _, ranks = fed(3, n_splits=n_splits, idle_timeout="5s")
    with ranks:
        feed.push({"t": [100], "x": [0]})
        ranks.close_round()
        held = watermarks(ranks)
        ranks.advance(3.0)
        feed.push({"t": [200], "x": [0]})
        ranks.close_round()
        ranks.advance(2.5)
        ranks.close_round()

        assert max(held) < 100
        assert watermarks(ranks) == [200] * 3


def test_without_a_timeout_a_silent_split_holds_time_back():
    feed, _, ranks = fed(2, idle_timeout=None)
    with ranks:
        feed.push({"t": [100], "x": [0]})
        ranks.close_round()
        ranks.advance(1e6)
        ranks.close_round()

        assert max(watermarks(ranks)) < 100


def test_a_live_job_ends_when_its_sources_do():
    feed, sink, ranks = fed(4)
    with ranks:
        feed.push([{"t": i, "x": i} for i in range(50)])
        feed.push([{"t": i, "x": i} for i in range(50, 80)], split=1)
        ranks.close_round()
        feed.end()

        result = ranks.finish().result

    assert result.rows_in == 80
    assert_same_rows(sink.committed, {"t": list(range(80)), "x": list(range(80))})


@given(n_ranks=st.integers(1, 5), seed=st.integers(0, 999), n_splits=st.integers(1, 4))
@settings(max_examples=10)
def test_a_live_job_in_virtual_time_gives_all_rows(n_ranks, seed, n_splits):
    feed, sink = StepSource(EVENTS, n_splits=n_splits), ListSink()
    for i in range(30):
        feed.push({"t": [i, i], "x": [2 * i, 2 * i + 1]}, split=i % n_splits)
    feed.end()

    run_ranks(
        n_ranks,
        live_job(feed, sink),
        seed=seed,
        max_delay=seed % 9,
        batch_rows=4,
        clock=ManualClock(turn_s=5e-5),
    )

    assert sorted(row["x"] for row in sink.committed) == list(range(60))
