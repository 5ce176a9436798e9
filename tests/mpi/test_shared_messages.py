"""Ranks of one host read each other's memory: real processes, whole jobs."""

from __future__ import annotations

import gc

import numpy as np
import pyarrow as pa
import pytest

import hpcstream as hs
from hpcstream import col
from hpcstream.exchange.communicator import complete
from hpcstream.exchange.shared_messages import find_nearby
from hpcstream.testing import assert_same_rows, run_ranks

N_ROWS = 200_000


def test_ranks_of_a_host_find_each_other(comm):
    nearby = complete(find_nearby(comm))

    if comm.size == 1:
        assert nearby is None
    else:
        assert sorted([comm.rank, *nearby.peers]) == list(range(comm.size))


def test_one_rank_that_may_not_is_left_out_by_all(comm):
    nearby = complete(find_nearby(comm, allowed=comm.rank != 0))

    near = set() if nearby is None else set(nearby.peers)
    assert 0 not in near
    assert (comm.rank == 0 or comm.size < 3) == (nearby is None)


def rows():
    """Every kind of column that the wire format knows, some values null, in long batches."""
    numbers = np.arange(N_ROWS)
    text = pa.array([None if n % 11 == 0 else f"name {n % 1000}" for n in range(N_ROWS)])
    flags = pa.array(numbers % 3 == 0, mask=numbers % 7 == 0)
    return pa.table({"x": numbers, "text": text, "flag": flags, "dict": text.dictionary_encode()})


def kept():
    """Rows that all go to other ranks, and are kept there to the end."""
    job = hs.Job("kept")
    batches = rows().to_batches(max_chunksize=N_ROWS // 8)
    return job, job.from_batches(batches).rebalance().with_columns(y=col("x") * 2).collect()


def counted():
    """Rows that are forgotten as soon as they are counted."""
    job = hs.Job("counted")
    batches = rows().to_batches(max_chunksize=N_ROWS // 8)
    stream = job.from_batches(batches, event_time="x", event_time_unit="ms")
    windows = stream.key_by("text").window(hs.tumbling("1s"))
    return job, windows.agg(n=hs.count(), least=col("x").min()).collect()


@pytest.mark.parametrize("build", [kept, counted])
@pytest.mark.parametrize("shared_memory", [True, False])
def test_jobs_give_the_same_rows_with_shared_memory_and_without(world, build, shared_memory):
    options = {"batch_rows": N_ROWS // 4, "local_aggregation": False}
    job, collected = build()

    job.run(comm=world, show=False, progress=False, shared_memory=shared_memory, **options)

    if world.rank == 0:
        simulated = run_ranks(world.size, build, shared_memory=shared_memory, **options)
        assert_same_rows(collected.table, simulated.table)


def test_messages_come_back_while_jobs_go_on(world, comm):
    for _ in range(3):
        job, collected = counted()
        job.run(comm=world, show=False, progress=False, local_aggregation=False, batch_rows=5000)

    del job, collected  # the table of results is what other ranks had sent
    gc.collect()
    world.barrier()

    nearby = complete(find_nearby(comm))
    if nearby is not None:
        assert nearby.own.n_shared == 0
