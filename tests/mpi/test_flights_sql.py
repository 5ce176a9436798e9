"""Every query over the flights on real ranks, one after the other in one program."""

import os

import pytest

from mpi4py import MPI

from tests.jobs.flights_oracle import EVERYWHERE, IN_GROUPS, Oracle, assert_same, build
from tests.jobs.flights_queries import QUERIES

BATCH_ROWS = 40_000
RANKS = {2, 3}
EVERY_RANK_COUNT = "HPCSTREAM_TEST_EVERY_RANK_COUNT"

pytestmark = pytest.mark.skipif(
    MPI.COMM_WORLD.size not in RANKS and EVERY_RANK_COUNT not in os.environ,
    reason=f"on {RANKS} ranks, elsewhere if {EVERY_RANK_COUNT} is set",
)


@pytest.fixture(scope="module")
def oracle():
    return Oracle() if MPI.COMM_WORLD.rank == 0 else None


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_a_query_says_what_sql_says_under_mpiexec(query, oracle, world):
    number = QUERIES.index(query)
    placement = IN_GROUPS if number % 3 == world.size % 3 else EVERYWHERE
    tables = []
    for _ in range(2 if number % 2 else 1):
        job, collected = build(query, placement)
        result = job.run(comm=world, show=False, batch_rows=BATCH_ROWS)
        tables.append(collected.table if result.is_root else None)
        assert result.late_rows == 0

    if world.rank == 0:
        assert tables[-1].equals(tables[0]), "a second run gave other bits, or another order"
        assert_same(tables[0], oracle.answer(query, tables[0].schema))
