"""Every query over the flights says what SQL says, on any number of ranks, again and again."""

import os

import pyarrow as pa
import pytest

from hpcstream.testing import run_ranks
from tests.jobs.flights_oracle import (
    EVERYWHERE,
    FLIGHTS,
    IN_GROUPS,
    Oracle,
    assert_same,
    build,
    cut,
)
from tests.jobs.flights_queries import QUERIES, Query

DAYS = 10
"""Of the shipped month, so that the tests are quick; a file that is named is read whole."""

by_query = pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)


@pytest.fixture(scope="module")
def flights(tmp_path_factory):
    if "HPCSTREAM_FLIGHTS" in os.environ:
        return FLIGHTS
    return cut(tmp_path_factory.mktemp("flights") / "flights.parquet", DAYS)


@pytest.fixture(scope="module")
def answer(flights):
    """SQL's rows of a query, asked for once."""
    oracle, known = Oracle(flights), {}

    def ask(query: Query, schema: pa.Schema) -> pa.Table:
        if query.name not in known:
            known[query.name] = oracle.answer(query, schema)
        return known[query.name]

    return ask


@pytest.fixture
def run(flights):
    """Run a query on simulated ranks and return its rows."""

    def run(query: Query, ranks: int, placement=EVERYWHERE, **simulation) -> pa.Table:
        options = {"batch_rows": 12_000} | simulation
        done = run_ranks(ranks, lambda: build(query, placement, flights), **options)
        assert done.result.late_rows == 0
        return done.table

    return run


def test_there_are_more_than_twenty_queries():
    assert len(QUERIES) > 21
    assert len({query.name for query in QUERIES}) == len(QUERIES)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@by_query
def test_a_query_says_what_sql_says_on_all_ranks(query, ranks, run, answer):
    rows = run(query, ranks, seed=1)

    assert_same(rows, answer(query, rows.schema))


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@by_query
def test_a_query_says_what_sql_says_in_groups_of_ranks(query, ranks, run, answer):
    rows = run(query, ranks, IN_GROUPS, seed=2)

    assert_same(rows, answer(query, rows.schema))


@by_query
def test_a_second_run_gives_the_same_bits_in_the_same_order(query, run):
    number = QUERIES.index(query)
    ranks, placement = 2 + number % 3, (EVERYWHERE, IN_GROUPS)[number // 3 % 2]

    first = run(query, ranks, placement, seed=3)
    second = run(query, ranks, placement, seed=4, max_delay=4)

    assert second.equals(first)
