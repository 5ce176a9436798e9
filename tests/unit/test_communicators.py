"""The communicators that need no MPI keep the contract."""

from __future__ import annotations

import pytest

from hpcstream.exchange.solo import SoloCommunicator
from hpcstream.testing.simulation import Deadlock, Simulation
from tests.communicator_contract import CommunicatorContract


class TestSimulation(CommunicatorContract):
    @pytest.fixture(params=[(1, 0), (2, 0), (3, 7), (6, 3)], ids=lambda p: f"{p[0]} ranks")
    def run(self, request):
        size, max_delay = request.param

        def run_all(program):
            world = Simulation(size, seed=size, max_delay=max_delay)
            world.run([program(world.communicator(rank)) for rank in range(size)])
            assert world.is_drained

        return run_all


class TestSolo(CommunicatorContract):
    @pytest.fixture
    def run(self):
        def run_one(program):
            for _ in program(SoloCommunicator()):
                raise AssertionError("one rank never waits")

        return run_one


def test_solo_has_nobody_to_wake():
    with pytest.raises(ValueError, match="no rank 1 to wake"):
        SoloCommunicator().send_wake(1)


def test_ranks_that_wait_for_ever_are_a_deadlock_that_names_them():
    def program(comm):
        if comm.rank != 2:
            yield from TestSimulation.exchange_v(comm, comm)

    world = Simulation(3)

    with pytest.raises(Deadlock, match=r"ranks \[0, 1\] wait for ever.*all_to_all_v by \[0, 1\]"):
        world.run([program(world.communicator(rank)) for rank in range(3)], patience=50)


def test_ranks_that_post_different_collectives_are_caught():
    def program(comm):
        if comm.rank:
            yield from TestSimulation.exchange_v(comm, comm)
        else:
            comm.begin_duplicate()

    world = Simulation(2)

    with pytest.raises(AssertionError, match="met"):
        world.run([program(world.communicator(rank)) for rank in range(2)])


def test_the_same_seed_repeats_the_same_order_of_turns():
    def order(seed):
        turns = []

        def program(rank):
            for _ in range(20):
                turns.append(rank)
                yield True

        Simulation(3, seed=seed).run([program(rank) for rank in range(3)])
        return turns

    assert order(1) == order(1)
    assert order(1) != order(2)
