"""Control rounds: the same decision on every rank, effective at the same round."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.runtime.control import (
    AIM_US,
    CLOCK_US,
    MOST_ROUNDS,
    ControlGate,
    Status,
    rounds_until_next,
)
from hpcstream.testing.simulation import Simulation, Turns


class Rank:
    """Closes rounds as control lets it, and notes where the boundaries were."""

    def __init__(self, comm, status_of):
        self.gate = ControlGate(comm)
        self.status_of = status_of
        self.next_round = 0
        self.boundaries = []

    def program(self):
        self.gate.open(self.status_of(0))
        while self.next_round != self.gate.end_round:
            moved = False
            if self.gate.may_start(self.next_round):
                self.next_round += 1
                moved = True
            if self.next_round >= self.gate.boundary and self.gate.poll():
                self.gate.pass_boundary(self.status_of(self.next_round))
                self.boundaries.append(self.gate.boundary)
                moved = True
            yield moved


def run(statuses, seed=0, max_delay=0):
    """Run a rank for each function of the round that returns a status."""
    simulation = Simulation(len(statuses), seed=seed, max_delay=max_delay)
    ranks = [Rank(simulation.communicator(i), s) for i, s in enumerate(statuses)]
    simulation.run([rank.program() for rank in ranks], patience=100)
    assert simulation.is_drained
    return ranks


def input_until(round_number, **fields):
    return lambda now: Status(has_input=int(now < round_number), **fields)


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 60_000)), min_size=1, max_size=6),
    st.integers(0, 999),
)
def test_all_ranks_end_at_one_round_after_the_last_input(ranks_of, seed):
    statuses = [input_until(last, round_us=us) for last, us in ranks_of]

    ranks = run(statuses, seed, max_delay=seed % 5)

    assert len({rank.gate.end_round for rank in ranks}) == 1
    assert len({tuple(rank.boundaries) for rank in ranks}) == 1
    assert ranks[0].gate.end_round >= max(last for last, _ in ranks_of)


@pytest.mark.parametrize("flag", ["failed", "stop"])
def test_one_rank_can_end_the_job_of_all(flag):
    def failing(now):
        return Status(has_input=1, round_us=AIM_US, **{flag: int(now >= 5)})

    ranks = run([input_until(10**6, round_us=AIM_US), failing, input_until(10**6)], seed=3)

    ends = {rank.gate.end_round for rank in ranks}
    assert len(ends) == 1
    assert 5 < ends.pop() <= 8


def test_the_job_goes_on_one_round_at_a_time_while_an_operator_has_results_to_come():
    def waiting(now):
        return Status(has_input=int(now < 20), pending=int(now < 50), round_us=AIM_US // 8)

    ranks = run([input_until(10, round_us=AIM_US // 8), waiting], seed=4)

    assert {rank.gate.end_round for rank in ranks} == {51}
    steps = [after - before for before, after in pairwise(ranks[0].boundaries)]
    assert steps[:-1] == [8, 8, 8, *[1] * (50 - 33), 1]


def test_the_time_of_day_is_the_greatest_of_all_ranks_and_never_goes_back():
    times = [iter([7, 9 * CLOCK_US, CLOCK_US] + 99 * [0]), iter(102 * [5 * CLOCK_US + 1])]
    heard = [[], []]

    def status_of(rank):
        return lambda now: Status(has_input=int(now < 6), clock_us=next(times[rank]))

    def noting(rank):
        for _ in rank[0].program():
            rank[1].append(rank[0].gate.now_us)
            yield True

    simulation = Simulation(2)
    pairs = [(Rank(simulation.communicator(i), status_of(i)), heard[i]) for i in range(2)]
    simulation.run([noting(pair) for pair in pairs])

    for own in heard:
        assert [now_us for now_us in dict.fromkeys(own) if now_us] == [5 * CLOCK_US, 9 * CLOCK_US]


def test_an_outcome_takes_effect_only_after_the_next_boundary():
    ranks = run([lambda now: Status(has_input=0)] * 2)

    assert [rank.gate.end_round for rank in ranks] == [1, 1]


def test_nobody_starts_a_control_round_before_the_outcome_is_in():
    simulation = Simulation(2)
    ranks = [Rank(simulation.communicator(i), input_until(100)) for i in range(2)]
    turns = Turns(simulation, [ranks[0].program()])

    turns.settle()

    assert ranks[0].next_round == 1
    assert not ranks[0].gate.poll()


def test_the_slowest_rank_sets_the_pace_of_control():
    ranks = run([input_until(60, round_us=1), input_until(60, round_us=AIM_US // 10)])

    steps = {b - a for a, b in zip(ranks[0].boundaries, ranks[0].boundaries[1:], strict=False)}
    assert steps <= {10, 0}


@pytest.mark.parametrize(
    ("round_us", "rounds"),
    [(0, 1), (1, MOST_ROUNDS), (1000, 50), (AIM_US, 1), (10 * AIM_US, 1)],
)
def test_control_comes_every_50_ms_but_within_64_rounds(round_us, rounds):
    assert rounds_until_next(round_us) == rounds
