"""Edges over ranks: nothing lost, in order, bounded, for any timing."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcstream.columns.event_time import MAX_TIME, MIN_TIME, least_mark
from hpcstream.errors import HpcstreamError
from hpcstream.exchange import shared_messages
from hpcstream.exchange.edges import calls, collective
from hpcstream.exchange.edges.base import RoundEnd
from hpcstream.exchange.edges.header import inline_bytes
from hpcstream.exchange.partitioning import BroadcastPartitioning, GatherPartitioning
from hpcstream.exchange.renewal import RenewedCommunicator
from hpcstream.testing.simulation import Simulation, Turns
from tests.unit.edge_ranks import EdgeRank, make_edge, nearby_on, rows, run_edges


def rounds_of(sender, sizes):
    """Return a batch a round, of the given sizes, positions counting on."""
    starts = np.cumsum([0, *sizes])
    return [[rows(sender, start, n)] if n else [] for start, n in zip(starts, sizes, strict=False)]


def received(rank):
    """Return (round, sender, position) of each row in the order in which it came."""
    return [
        (number, row["sender"], row["position"])
        for number, part in enumerate(rank.taken)
        for batch in part.batches
        for row in batch.to_pylist()
    ]


def all_received(ranks):
    return sorted(row for rank in ranks for row in received(rank))


def sent(sizes_of_sender):
    expected = []
    for sender, sizes in sizes_of_sender.items():
        starts = np.cumsum([0, *sizes])
        for number, n in enumerate(sizes):
            expected += [(number, sender, int(starts[number]) + i) for i in range(n)]
    return sorted(expected)


def everyone(size, sizes):
    """Return the same sizes for each of ``size`` senders."""
    return {sender: list(sizes) for sender in range(size)}


groups = st.integers(1, 6).flatmap(
    lambda size: st.tuples(
        st.lists(st.booleans(), min_size=size, max_size=size).map(tuple),
        st.lists(st.booleans(), min_size=size, max_size=size).map(tuple),
    )
)


def as_group(roles):
    """Make every rank a producer or a consumer, and have one of each."""
    produces, consumes = roles
    size = len(produces)
    producers = {r for r in range(size) if produces[r]} or {0}
    consumers = {r for r in range(size) if consumes[r] or r not in producers} or {size - 1}
    return tuple(sorted(producers)), tuple(sorted(consumers))


@given(
    roles=groups,
    n_rounds=st.integers(1, 6),
    capacity=st.sampled_from([1, 2, 4]),
    step_bytes=st.sampled_from([1, 100, 1 << 16]),
    world=st.tuples(st.integers(0, 2**16), st.sampled_from([0, 1, 20])),
    data=st.data(),
)
@settings(max_examples=60)
def test_every_row_comes_once_in_order_whatever_the_timing(
    roles, n_rounds, capacity, step_bytes, world, data
):
    producers, consumers = group = as_group(roles)
    lengths = st.lists(st.integers(0, 12), min_size=n_rounds, max_size=n_rounds)
    sizes = {sender: data.draw(lengths) for sender in producers}
    simulation = Simulation(len(roles[0]), seed=world[0], max_delay=world[1])
    ranks = []
    for rank in range(simulation.size):
        edge = make_edge(
            simulation.communicator(rank), group=group, capacity=capacity, step_bytes=step_bytes
        )
        sends = rounds_of(rank, sizes[rank]) if rank in producers else None
        ranks.append(EdgeRank(edge, sends, n_rounds, consumes=rank in consumers))

    run_edges(simulation, ranks)

    assert all_received(ranks) == sent(sizes)
    for rank in ranks:
        assert received(rank) == sorted(received(rank))
    assert len({rank.edge.calls_posted for rank in ranks}) == 1


@given(
    hosts=st.lists(st.integers(0, 2), min_size=2, max_size=6),
    roles=groups,
    n_rounds=st.integers(1, 5),
    world=st.tuples(st.integers(0, 2**16), st.sampled_from([0, 1, 20])),
    data=st.data(),
)
@settings(max_examples=40)
def test_every_row_comes_once_where_some_ranks_read_the_memory_of_others(
    hosts, roles, n_rounds, world, data
):
    size = min(len(hosts), len(roles[0]))
    producers, consumers = group = as_group((roles[0][:size], roles[1][:size]))
    lengths = st.lists(st.sampled_from([0, 1, 2, 30]), min_size=n_rounds, max_size=n_rounds)
    sizes = {sender: data.draw(lengths) for sender in producers}
    nearby = nearby_on(hosts[:size])
    simulation = Simulation(size, seed=world[0], max_delay=world[1])
    ranks = []
    with mock.patch.object(calls, "inline_bytes", return_value=192):
        for rank in range(size):
            comm = simulation.communicator(rank)
            edge = make_edge(comm, group=group, nearby=nearby[rank], step_bytes=500)
            sends = rounds_of(rank, sizes[rank]) if rank in producers else None
            ranks.append(EdgeRank(edge, sends, n_rounds, consumes=rank in consumers))

    run_edges(simulation, ranks)

    assert all_received(ranks) == sent(sizes)
    del ranks, edge
    for own in filter(None, nearby):
        for peer in own.peers.values():
            peer.release()
    assert [near.own.n_shared for near in filter(None, nearby)] == [0] * (size - nearby.count(None))


def test_ranks_of_one_host_send_no_payload():
    nearby = nearby_on([0, 0, 0])

    ranks = run_everyone(3, [5, 5000, 40_000], nearby=nearby)

    assert [rank.edge._calls._payloads._calls_left for rank in ranks] == [1 << 22] * 3
    assert all_received(ranks) == sent(everyone(3, [5, 5000, 40_000]))


def test_messages_are_sent_while_too_many_are_shared(monkeypatch):
    monkeypatch.setattr(shared_messages, "MAX_SHARED", 2)
    n_rounds = 6

    ranks = run_everyone(2, [5000] * n_rounds, nearby=nearby_on([0, 0]))

    n_payloads = (1 << 22) - ranks[0].edge._calls._payloads._calls_left
    assert n_payloads == n_rounds - 2  # every batch is kept: no message is released
    assert all_received(ranks) == sent(everyone(2, [5000] * n_rounds))


def test_what_others_still_read_is_not_written_again():
    nearby = nearby_on([0, 0])
    ranks = run_everyone(2, [5000] * 4, nearby=nearby)
    before = all_received(ranks)

    for near in nearby:
        for _ in range(20):
            near.own.pool.take(150_000)[:] = 0xEE

    assert all_received(ranks) == before == sent(everyone(2, [5000] * 4))


def run_everyone(size, sizes, *, seed=0, max_delay=3, n_rounds=None, nearby=None, **limits):
    simulation = Simulation(size, seed=seed, max_delay=max_delay)
    ranks = [
        EdgeRank(
            make_edge(simulation.communicator(rank), nearby=nearby and nearby[rank], **limits),
            rounds_of(rank, sizes),
            len(sizes),
        )
        for rank in range(size)
    ]
    return run_edges(simulation, ranks)


def test_timing_changes_no_batch():
    runs = [run_everyone(4, [50, 0, 900, 3], seed=s, max_delay=s, step_bytes=2000) for s in (0, 9)]

    first, second = ([[part.batches for part in r.taken] for r in run] for run in runs)

    assert first == second


def test_rows_of_small_rounds_travel_in_the_headers():
    ranks = run_everyone(3, [5, 5, 5])

    assert all(rank.edge._calls._payloads._calls_left == 1 << 22 for rank in ranks)
    assert all(rank.edge.bytes_sent > 0 for rank in ranks)


def test_rows_too_long_for_the_header_follow_as_payload_on_every_rank():
    n_rows = 3 * inline_bytes(3)

    ranks = run_everyone(3, [5, n_rows])

    assert [rank.edge._calls._payloads._calls_left for rank in ranks] == [(1 << 22) - 1] * 3
    assert all_received(ranks) == sent(everyone(3, [5, n_rows]))


def test_a_long_round_goes_in_steps_of_bounded_bytes():
    ranks = run_everyone(2, [5000], step_bytes=4096, n_rounds=1)

    assert all(rank.edge.calls_posted > 20 for rank in ranks)
    longest = max(b.nbytes for rank in ranks for part in rank.taken for b in part.batches)
    assert longest <= 2 * 4096


def test_what_one_rank_may_receive_bounds_the_step_of_each_sender():
    simulation = Simulation(4)

    edge = make_edge(simulation.communicator(0), receive_bytes=1 << 20, step_bytes=1 << 24)

    assert edge._step_bytes == (1 << 20) // 4


@pytest.mark.parametrize("capacity", [1, 2, 4])
def test_a_consumer_that_stalls_stops_the_producers(capacity):
    """Producers come at most K rounds beyond what is complete; that, K beyond what is consumed."""
    simulation = Simulation(3, seed=5)
    stalled = True
    ranks = [
        EdgeRank(
            make_edge(simulation.communicator(rank), capacity=capacity),
            rounds_of(rank, [4] * 30),
            30,
            may_take=lambda rank=rank: rank != 1 or not stalled,
        )
        for rank in range(3)
    ]
    turns = Turns(simulation, [rank.program() for rank in ranks])

    turns.settle()

    assert ranks[1].closed == capacity
    assert all(rank.closed <= 2 * capacity for rank in ranks)
    assert len(ranks[0].taken) == len(ranks[2].taken) == capacity
    stalled = False
    turns.until(lambda: False)
    turns.finish()
    assert [len(rank.taken) for rank in ranks] == [30] * 3
    assert simulation.is_drained


@pytest.mark.parametrize("capacity", [1, 2, 4])
def test_no_rank_runs_ahead_of_the_slowest_producer(capacity):
    simulation = Simulation(3, seed=6)
    last = 2
    ranks = [
        EdgeRank(
            make_edge(simulation.communicator(rank), capacity=capacity),
            rounds_of(rank, [4] * 20),
            20,
            may_send=lambda number, rank=rank: rank != 1 or number <= last,
        )
        for rank in range(3)
    ]
    turns = Turns(simulation, [rank.program() for rank in ranks])

    turns.settle()

    assert [rank.closed for rank in ranks] == [3 + capacity, 3, 3 + capacity]
    last = 20
    turns.until(lambda: False)
    turns.finish()
    assert all_received(ranks) == sent(everyone(3, [4] * 20))


def test_a_rank_that_only_consumes_throttles_too():
    simulation = Simulation(2, seed=7)
    stalled = True
    ranks = [
        EdgeRank(
            make_edge(simulation.communicator(rank), group=((0,), (1,)), capacity=2),
            rounds_of(0, [4] * 20) if rank == 0 else None,
            20,
            consumes=rank == 1,
            may_take=lambda: not stalled,
        )
        for rank in range(2)
    ]
    turns = Turns(simulation, [rank.program() for rank in ranks])

    turns.settle()

    assert ranks[0].closed <= 2 * 2
    stalled = False
    turns.until(lambda: False)
    turns.finish()
    assert received(ranks[1]) == sent({0: [4] * 20})


def test_everyone_gets_every_row_of_a_broadcast():
    simulation = Simulation(3)
    ranks = [
        EdgeRank(
            make_edge(simulation.communicator(rank), partitioning=BroadcastPartitioning()),
            rounds_of(rank, [3, 2000]),
            2,
        )
        for rank in range(3)
    ]

    run_edges(simulation, ranks)

    for rank in ranks:
        assert received(rank) == sent(everyone(3, [3, 2000]))


def test_gathered_rows_come_in_the_order_of_ranks():
    simulation = Simulation(4, seed=1, max_delay=9)
    group = ((0, 1, 2, 3), (2,))
    ranks = [
        EdgeRank(
            make_edge(simulation.communicator(r), group=group, partitioning=GatherPartitioning()),
            rounds_of(r, [7, 1, 0, 3]),
            4,
            consumes=r == 2,
        )
        for r in range(4)
    ]

    run_edges(simulation, ranks)

    assert received(ranks[2]) == sent(everyone(4, [7, 1, 0, 3]))


def ends_of(*ends):
    """Run one round in which rank ``i`` says ``ends[i]``; return what each rank took."""
    simulation = Simulation(len(ends), seed=3, max_delay=2)
    ranks = [
        EdgeRank(make_edge(simulation.communicator(r)), [[]], 1, end=lambda number, end=end: end)
        for r, end in enumerate(ends)
    ]
    return run_edges(simulation, ranks)


def test_the_watermark_of_a_round_is_the_least_of_the_active_senders():
    for rank in ends_of(RoundEnd(7), RoundEnd(5), RoundEnd(3, idle=True)):
        assert rank.taken[0].watermark == 5


def test_a_round_of_idle_senders_has_no_watermark():
    for rank in ends_of(RoundEnd(7, idle=True), RoundEnd(MAX_TIME, idle=True)):
        assert rank.taken[0].watermark is None


def test_senders_that_have_ended_are_left_out_like_idle_ones():
    for rank in ends_of(RoundEnd(MAX_TIME), RoundEnd(5), RoundEnd(3, idle=True)):
        assert rank.taken[0].watermark == 5
    for rank in ends_of(RoundEnd(MAX_TIME), RoundEnd(3, idle=True)):
        assert rank.taken[0].watermark is None
    for rank in ends_of(RoundEnd(MAX_TIME), RoundEnd(MAX_TIME)):
        assert rank.taken[0].watermark == MAX_TIME


@given(
    marks=st.lists(st.lists(st.none() | st.integers(0, 9), min_size=4, max_size=4), min_size=1),
    seed=st.integers(0, 99),
)
@settings(max_examples=20, deadline=None)
def test_every_rank_knows_what_the_producers_had_promised_together(marks, seed):
    marks = marks[:3]
    simulation = Simulation(len(marks), seed=seed, max_delay=3)
    ranks = [
        EdgeRank(
            make_edge(simulation.communicator(rank)),
            [[]] * 4,
            4,
            end=lambda number, own=own: RoundEnd.of(own[number], busy=False),
        )
        for rank, own in enumerate(marks)
    ]
    assert ranks[0].edge.reached_by(0) is None

    run_edges(simulation, ranks)

    together = [least_mark(list(of_round)) for of_round in zip(*marks, strict=True)]
    reached = max([mark for mark in together if mark is not None], default=MIN_TIME)
    assert [rank.edge.reached_by(3) for rank in ranks] == [reached] * len(marks)
    assert [rank.edge.reached_by(4) for rank in ranks] == [None] * len(marks)


def test_one_busy_sender_makes_the_round_busy_everywhere():
    for rank in ends_of(RoundEnd(0), RoundEnd(0, busy=True)):
        assert rank.taken[0].busy
        assert rank.edge.busy_round == 0
    for rank in ends_of(RoundEnd(0), RoundEnd(0)):
        assert not rank.taken[0].busy
        assert rank.edge.busy_round == -1


def test_the_abort_flag_reaches_every_rank():
    assert all(r.edge.abort_seen for r in ends_of(RoundEnd(0), RoundEnd(0, abort=True)))
    assert not any(r.edge.abort_seen for r in ends_of(RoundEnd(0), RoundEnd(0)))


def test_a_round_closed_with_abort_carries_none_of_the_rows_that_waited():
    simulation = Simulation(2)
    ranks = [
        EdgeRank(
            make_edge(simulation.communicator(r)),
            [[rows(r, 0, 5)]],
            1,
            end=lambda number, r=r: RoundEnd(0, abort=r == 1),
        )
        for r in range(2)
    ]

    run_edges(simulation, ranks)

    assert all_received(ranks) == sent({0: [5]})


@pytest.mark.parametrize("max_delay", [0, 7])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_communicators_are_renewed_in_the_middle_of_traffic(size, max_delay):
    simulation = Simulation(size, seed=size, max_delay=max_delay)
    ranks = []
    for rank in range(size):
        edge = make_edge(simulation.communicator(rank), capacity=2)
        renew_often(edge._calls, 16)
        ranks.append(EdgeRank(edge, rounds_of(rank, [3, 2000] * 30), 60))

    run_edges(simulation, ranks)

    assert all_received(ranks) == sent(everyone(size, [3, 2000] * 30))
    assert len({rank.edge._calls._headers.renewals for rank in ranks}) == 1
    assert ranks[0].edge._calls._headers.renewals >= 3
    if size > 1:
        assert ranks[0].edge._calls._payloads.renewals >= 1
    for rank in ranks:
        rank.edge.free()


def renew_often(calls, n_calls):
    calls._headers = RenewedCommunicator(calls._headers.next(), n_calls)
    calls._payloads = RenewedCommunicator(calls._payloads.next(), n_calls)


def test_one_value_too_long_for_a_message_is_named(monkeypatch):
    monkeypatch.setattr(collective, "_MAX_PAYLOAD", 1000)
    schema = pa.schema({"key": pa.string()})
    simulation = Simulation(1)
    edge = make_edge(simulation.communicator(0), schema=schema)
    batch = pa.record_batch([["x" * 2000]], schema=schema)

    with pytest.raises(HpcstreamError, match=r"edge 0: a step of 1 rows .* split the large"):
        list(edge.send(batch)) + list(edge.close(0, RoundEnd(0)))


class TwoEdgeRank:
    """A task with two outputs, of which a rank may fill the one and not the other."""

    def __init__(self, edges, batches):
        self.edges = edges
        self.batches = batches
        self.taken = [[], []]

    def program(self):
        producing = self._produce()
        while not all(edge.finished for edge in self.edges):
            moves = [edge.progress() for edge in self.edges]
            moved = next(producing, False) or any(moves)
            for edge, taken in zip(self.edges, self.taken, strict=True):
                if edge.has_round(0) and not taken:
                    taken.append(edge.take(0))
            yield moved

    def _produce(self):
        for edge, batch in zip(self.edges, self.batches, strict=True):
            yield from self._waiting(edge.send(batch))
        for edge in self.edges:
            yield from self._waiting(edge.close(0, RoundEnd(0)))
        for edge in self.edges:
            edge.finish(1)

    def _waiting(self, waits):
        for _ in waits:
            for edge in self.edges:
                edge.note_blocked(0)
            yield False


@pytest.mark.parametrize("seed", range(5))
def test_ranks_that_fill_different_edges_of_one_task_do_not_wait_for_each_other(seed):
    simulation = Simulation(2, seed=seed)
    ranks = []
    for rank in range(2):
        comm = simulation.communicator(rank)
        edges = [make_edge(comm, step_bytes=100), make_edge(comm, step_bytes=100)]
        batches = [rows(rank, 0, 200 if rank == number else 0) for number in range(2)]
        ranks.append(TwoEdgeRank(edges, batches))

    simulation.run([rank.program() for rank in ranks], patience=200)

    for number in range(2):
        n_rows = sum(b.num_rows for rank in ranks for b in rank.taken[number][0].batches)
        assert n_rows == 200
    assert simulation.is_drained


def test_the_memory_of_rows_is_not_used_again_while_they_are_read():
    ranks = run_everyone(2, [3] * 40, capacity=1)

    assert all_received(ranks) == sent(everyone(2, [3] * 40))
