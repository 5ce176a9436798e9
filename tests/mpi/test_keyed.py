"""Rows of each key in event order over MPI: as on simulated ranks."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

import hpcstream as hs
from hpcstream.testing import assert_same_rows, run_ranks


def stream(job):
    random = np.random.default_rng(5)
    n_rows = 4000
    rows = pa.table(
        {
            "t": np.arange(n_rows) + random.integers(0, 30, n_rows),
            "key": pa.array([f"k{i}" for i in random.integers(0, 200, n_rows)]),
            "x": random.integers(0, 100, n_rows),
        }
    )
    batches = rows.to_batches(max_chunksize=400)
    return job.from_batches(batches).with_event_time("t", "30ms", unit="ms").key_by("key")


def deduplicate():
    job = hs.Job("first")
    return job, stream(job).deduplicate("300ms").collect()


def limited():
    job = hs.Job("limits")
    return job, stream(job).rate_limit(1, "700ms").side("limited").collect()


def columns():
    job = hs.Job("columns")
    made = {"diff": hs.col("x").diff(), "was": hs.col("key").shift(2), "sum": hs.col("x").cum_sum()}
    return job, stream(job).with_columns(**made).filter(hs.col("sum") % 7 != 0).collect()


@pytest.mark.parametrize("build", [deduplicate, limited, columns])
def test_rank_0_collects_the_rows_that_simulated_ranks_give(world, build):
    job, collected = build()

    result = job.run(comm=world, show=False, progress=False, batch_rows=250)

    if result.is_root:
        simulated = run_ranks(1, build).table
        assert 100 < simulated.num_rows < 4000
        assert_same_rows(collected.table, simulated)
