import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hpcstream as hs
from hpcstream.config import OVERLAPPING_ROUND, REDUCED_ROUND, JobConfig
from hpcstream.graph.planner import plan
from hpcstream.runtime.run.assignment import round_limits
from hpcstream.runtime.sources.split_assignment import assigned_to
from hpcstream.testing import ListSource, assert_same_rows, run_ranks

ROUND = 1_000_000


def readers_of(n_instances, split_rows, group_rows=ROUND):
    """Which instance reads each split."""
    readers = {}
    for instance in range(n_instances):
        for number in assigned_to(instance, n_instances, split_rows, group_rows):
            assert number not in readers
            readers[number] = instance
    return [readers[number] for number in range(len(split_rows))]


def test_neighbours_up_to_a_round_go_to_one_rank():
    assert readers_of(2, [250_000] * 64)[:12] == [0] * 4 + [1] * 4 + [0] * 4


def test_few_splits_are_dealt_one_by_one_so_that_no_rank_waits():
    assert readers_of(3, [250_000] * 7) == [0, 1, 2, 0, 1, 2, 0]


def test_large_splits_are_runs_of_their_own():
    assert readers_of(2, [3_000_000] * 5) == [0, 1, 0, 1, 0]


def test_live_splits_and_those_of_unknown_size_are_dealt_one_by_one():
    assert readers_of(2, [10] * 4, group_rows=0) == [0, 1, 0, 1]
    assert readers_of(2, [None] * 4) == [0, 1, 0, 1]


def test_splits_without_rows_belong_to_the_run_before_their_neighbour():
    assert readers_of(2, [0, 0, *[500_000] * 40])[:6] == [0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize("split_rows", [[100_000_000] + [100] * 9999, [0] * 9999 + [ROUND]])
def test_thousands_of_tiny_splits_are_not_left_to_one_rank(split_rows):
    readers = readers_of(5, split_rows)

    assert min(readers.count(instance) for instance in range(5)) > 1500


@given(
    n_instances=st.integers(1, 5),
    split_rows=st.lists(st.one_of(st.none(), st.integers(0, 2_000_000)), max_size=200),
    group_rows=st.integers(0, 3_000_000),
)
def test_every_split_has_one_reader(n_instances, split_rows, group_rows):
    assert len(readers_of(n_instances, split_rows, group_rows)) == len(split_rows)


@given(
    n_instances=st.integers(1, 5),
    n_splits=st.integers(1, 300),
    rows=st.integers(1, 10_000),
    group_rows=st.integers(0, 100_000),
)
def test_ranks_differ_by_a_group_at_most(n_instances, n_splits, rows, group_rows):
    readers = readers_of(n_instances, [rows] * n_splits, group_rows)

    splits_of = [readers.count(instance) for instance in range(n_instances)]
    weight = max(rows, group_rows // 512)
    in_a_group = -(-min(group_rows, n_splits * weight // (8 * n_instances)) // weight)
    assert max(splits_of) - min(splits_of) <= max(in_a_group, 1)


def counts(n_ranks, batch_rows, max_delay=0):
    """Run a windowed count over 96 splits of ten rows; return rows and what crossed ranks."""
    splits = [
        [{"ts": [10 * split + i for i in range(10)], "key": list(range(10))}] for split in range(96)
    ]

    def build():
        job = hs.Job("counts")
        source = ListSource(splits, event_time="ts")
        rows = job.source(source, event_time="ts", event_time_unit="ms")
        return job, rows.key_by("key").window(hs.tumbling("40ms")).agg(n=hs.count()).collect()

    run = run_ranks(n_ranks, build, batch_rows=batch_rows, max_delay=max_delay)
    [local] = [one for one in run.result.operators if one.label.startswith("local")]
    return run, local.rows_out


@pytest.mark.parametrize("n_ranks", [2, 3, 5])
@pytest.mark.parametrize("max_delay", [0, 7])
def test_runs_give_the_same_results_from_fewer_partial_ones(n_ranks, max_delay):
    in_runs, n_partials = counts(n_ranks, 40, max_delay)
    one_by_one, n_more_partials = counts(n_ranks, 10, max_delay)

    expected = [
        {"key": key, "window_start": start, "window_end": start + 40, "n": 4}
        for start in range(0, 960, 40)
        for key in range(10)
    ]
    assert_same_rows(in_runs.table, pa.Table.from_pylist(expected, in_runs.table.schema))
    assert_same_rows(in_runs.table, one_by_one.table)
    assert in_runs.result.late_rows == 0
    assert n_partials < n_more_partials


@pytest.mark.parametrize(
    ("window", "limits"),
    [(hs.tumbling("1s"), REDUCED_ROUND), (hs.sliding("4s", "1s"), OVERLAPPING_ROUND)],
)
def test_a_round_is_smaller_where_a_row_counts_in_several_windows(window, limits):
    job = hs.Job("rounds")
    table = pa.table({"t": [1, 2], "k": [1, 2]})
    stream = job.from_batches(table, event_time="t", event_time_unit="ms")
    stream.key_by("k").window(window).agg(n=hs.count()).collect()

    assert round_limits(plan(job._graph(), 2), JobConfig()) == limits
    assert round_limits(plan(job._graph(), 2), JobConfig(batch_rows=7)).rows == 7
