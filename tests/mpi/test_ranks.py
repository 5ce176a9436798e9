"""The world is the one that was asked for, and its ranks can talk."""

from __future__ import annotations

import os

from hpcstream.exchange.mpi import mpi_facts
from hpcstream.process.launcher_facts import check_launcher, is_launched


def test_every_rank_has_a_number_of_its_own(world, comm):
    assert sorted(world.allgather(comm.rank)) == list(range(comm.size))


def test_the_launcher_of_this_run_is_seen_and_accepted():
    facts = mpi_facts()

    assert is_launched(os.environ)
    check_launcher(facts["world_size"], os.environ, facts["library"])
