"""Windows of all rows, reduced over ranks round by round."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcstream.columns.event_time import MAX_TIME
from hpcstream.columns.reduction import ColumnReduction
from hpcstream.exchange.edges.base import RoundEnd
from hpcstream.exchange.edges.reduce import ReduceEdge
from hpcstream.exchange.renewal import RenewedCommunicator
from hpcstream.testing.simulation import Simulation, Turns
from tests.unit.edge_ranks import EdgeRank, run_edges

INT = np.iinfo(np.int64)
SCHEMA = pa.schema(
    {"window": pa.int64(), "n": pa.int64(), "least": pa.int64(), "most": pa.float64()}
)
REDUCTIONS = {
    "n": ColumnReduction("sum", 0),
    "least": ColumnReduction("min", INT.max),
    "most": ColumnReduction("max", float("-inf")),
}


def make_edge(comm, capacity=3):
    return ReduceEdge("edge 0", comm.duplicate(), SCHEMA, REDUCTIONS, capacity)


def windows(*rows):
    return pa.RecordBatch.from_pylist(
        [dict(zip(SCHEMA.names, row, strict=True)) for row in rows], schema=SCHEMA
    )


def run_all(sends, *, seed=0, max_delay=0, capacity=3, end=RoundEnd):
    simulation = Simulation(len(sends), seed=seed, max_delay=max_delay)
    ranks = [
        EdgeRank(
            make_edge(simulation.communicator(rank), capacity),
            sends[rank],
            len(sends[rank]),
            end=lambda number, rank=rank: end(rank),
        )
        for rank in range(len(sends))
    ]
    return run_edges(simulation, ranks)


def taken(rank):
    return [[row for b in part.batches for row in b.to_pylist()] for part in rank.taken]


window_rows = st.dictionaries(
    st.integers(0, 6), st.tuples(st.integers(0, 99), st.integers(-9, 9), st.floats(-9, 9))
)


@given(
    data=st.data(),
    size=st.integers(1, 6),
    n_rounds=st.integers(1, 4),
    seed=st.integers(0, 999),
    capacity=st.sampled_from([1, 2, 4]),
)
@settings(max_examples=40)
def test_each_window_comes_out_once_reduced_over_all_ranks(data, size, n_rounds, seed, capacity):
    given_rows = [[data.draw(window_rows) for _ in range(n_rounds)] for _ in range(size)]
    sends = [
        [[windows(*((w, *values) for w, values in rows.items()))] for rows in rounds]
        for rounds in given_rows
    ]

    ranks = run_all(sends, seed=seed, max_delay=seed % 7, capacity=capacity)

    for number in range(n_rounds):
        parts = [given_rows[rank][number] for rank in range(size)]
        for rank in range(size):
            expected = []
            for window in sorted({w for part in parts for w in part}):
                values = [part[window] for part in parts if window in part]
                if window % size == rank:
                    n, least, most = zip(*values, strict=True)
                    expected.append((window, sum(n), min(least), max(most)))
            got = [tuple(row.values()) for row in taken(ranks[rank])[number]]
            assert got == expected


def test_rounds_without_windows_cost_no_reduction():
    simulation = Simulation(2)
    calls = []
    post = simulation.post

    def noted(key, kind, *rest):
        calls.append(kind)
        return post(key, kind, *rest)

    simulation.post = noted
    ranks = [EdgeRank(make_edge(simulation.communicator(rank)), [[], []], 2) for rank in range(2)]

    run_edges(simulation, ranks)

    assert calls == ["all_gather"] * 4


def test_the_watermark_is_the_least_of_the_active_ranks():
    ends = [RoundEnd(9), RoundEnd(4), RoundEnd(1, idle=True)]

    ranks = run_all([[[]], [[]], [[]]], end=lambda rank: ends[rank])

    assert [rank.taken[0].watermark for rank in ranks] == [4, 4, 4]


def test_idle_ranks_alone_have_no_watermark():
    ranks = run_all([[[]], [[]]], end=lambda rank: RoundEnd(9, idle=True))

    assert [rank.taken[0].watermark for rank in ranks] == [None, None]


def test_ranks_that_have_ended_are_left_out_like_idle_ones():
    ends = [RoundEnd(MAX_TIME), RoundEnd(4), RoundEnd(1, idle=True)]

    ranks = run_all([[[]], [[]], [[]]], end=lambda rank: ends[rank])

    assert [rank.taken[0].watermark for rank in ranks] == [4, 4, 4]
    assert [rank.edge.reached_by(0) for rank in ranks] == [4, 4, 4]
    assert [rank.edge.reached_by(1) for rank in ranks] == [None, None, None]


def test_an_idle_rank_beside_ended_ones_does_not_end_the_stream():
    ends = [RoundEnd(MAX_TIME), RoundEnd(1, idle=True)]

    ranks = run_all([[[]], [[]]], end=lambda rank: ends[rank])

    assert [rank.taken[0].watermark for rank in ranks] == [None, None]


def test_busy_and_abort_reach_every_rank_and_an_aborted_round_has_no_rows():
    sends = [[[windows((3, 1, 1, 1.0))]], [[windows((3, 5, 0, 9.0))]]]

    ranks = run_all(sends, end=lambda rank: RoundEnd(0, busy=rank == 0, abort=rank == 1))

    assert all(rank.edge.abort_seen and rank.edge.busy_round == 0 for rank in ranks)
    assert all(rank.taken[0].busy for rank in ranks)
    assert taken(ranks[1]) == [[{"window": 3, "n": 1, "least": 1, "most": 1.0}]]


@pytest.mark.parametrize("max_delay", [0, 6])
def test_communicators_are_renewed_in_the_middle_of_traffic(max_delay):
    simulation = Simulation(3, seed=2, max_delay=max_delay)
    sends = [[windows((number, 1, 0, 0.5))] for number in range(30)]
    ranks = []
    for rank in range(3):
        edge = make_edge(simulation.communicator(rank))
        edge._calls = RenewedCommunicator(edge._calls.next(), 8)
        ranks.append(EdgeRank(edge, sends, 30))

    run_edges(simulation, ranks)

    counts = sorted((row["window"], row["n"]) for r in ranks for part in taken(r) for row in part)
    assert counts == [(number, 3) for number in range(30)]
    assert [rank.edge._calls.renewals > 5 for rank in ranks] == [True] * 3
    for rank in ranks:
        rank.edge.free()


@pytest.mark.parametrize("capacity", [1, 2, 4])
def test_a_consumer_that_stalls_stops_its_own_producer(capacity):
    simulation = Simulation(2)
    stalled = True
    ranks = [
        EdgeRank(
            make_edge(simulation.communicator(rank), capacity),
            [[]] * 10,
            10,
            may_take=lambda rank=rank: rank == 0 or not stalled,
        )
        for rank in range(2)
    ]
    turns = Turns(simulation, [rank.program() for rank in ranks])

    turns.settle()

    assert ranks[1].closed == capacity
    assert ranks[0].closed <= 2 * capacity
    stalled = False
    turns.until(lambda: False)
    turns.finish()
    assert [len(rank.taken) for rank in ranks] == [10, 10]
