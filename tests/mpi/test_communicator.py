"""The communicator over MPI keeps the contract, on any number of ranks."""

from __future__ import annotations

import pytest

from hpcstream.errors import PlanError
from hpcstream.exchange.mpi import communicator
from tests.communicator_contract import CommunicatorContract


class TestMPI(CommunicatorContract):
    @pytest.fixture
    def run(self, comm):
        def run_here(program):
            for _ in program(comm):
                continue

        return run_here


def test_only_an_intracommunicator_will_do():
    with pytest.raises(PlanError, match="intracommunicator with this rank in it; got 'world'"):
        communicator("world")


def test_ours_and_the_users_messages_do_not_meet(world, comm):
    """The engine's communicator is a duplicate, so the user's own calls may be under way."""
    value = world.rank
    request = world.isend(value, dest=(world.rank + 1) % world.size, tag=7)

    assert not comm.take_wake()

    assert world.recv(source=(world.rank - 1) % world.size, tag=7) == (world.rank - 1) % world.size
    request.wait()
