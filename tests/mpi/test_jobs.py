"""Whole jobs over MPI: the same rows as on simulated ranks, failing together, run again."""

from __future__ import annotations

import pyarrow as pa
import pytest

import hpcstream as hs
from hpcstream import col
from hpcstream.errors import PlanError, RemoteError
from hpcstream.exchange.renewal import RenewedCommunicator
from hpcstream.testing import ListSource, assert_same_rows, run_ranks

N_ROWS = 3000
ALL_ROWS = {"x": list(range(N_ROWS))}


def numbers(job):
    step = N_ROWS // 10
    batches = [{"x": list(range(start, start + step))} for start in range(0, N_ROWS, step)]
    return job.from_batches([pa.record_batch(batch) for batch in batches])


def diamond():
    job = hs.Job("diamond")
    stream = numbers(job)
    even = stream.filter(col("x") % 2 == 0)
    odd = stream.filter(col("x") % 2 == 1).rebalance().rebalance()
    return job, even.union(odd).collect()


def groups():
    """Ranks that only produce, only consume, or do both: payload between neighbors."""
    job = hs.Job("groups")
    moved = numbers(job).on(ranks=[1, 2]).with_columns(y=col("x") * 2)
    return job, moved.on(ranks=[2, 3]).filter(col("y") >= 0).select("x").collect()


def run(build, comm, **options):
    """Run a job on all ranks of ``comm``; return its result and, on rank 0, what it collected."""
    job, collected = build()
    result = job.run(comm=comm, show=False, progress=False, **options)
    return result, collected.table if result.is_root else None


@pytest.mark.parametrize("build", [diamond, groups])
@pytest.mark.parametrize("options", [{}, {"rounds_in_flight": 1, "step_bytes": 500}])
def test_rank_0_collects_the_rows_that_simulated_ranks_give(world, build, options):
    result, table = run(build, world, batch_rows=250, **options)

    assert result.rows_in == N_ROWS
    assert result.ranks == world.size
    assert result.rank == world.rank
    if world.rank:
        return
    assert_same_rows(table, ALL_ROWS)
    simulated = run_ranks(world.size, build, batch_rows=250, **options)
    assert table.equals(simulated.table)


def test_rows_longer_than_an_inline_area_and_a_step_arrive_whole(world):
    words = [f"{i}:" + "x" * (i % 5000) for i in range(500)]

    def build():
        job = hs.Job("long")
        batches = [pa.record_batch({"w": words[i : i + 50]}) for i in range(0, 500, 50)]
        return job, job.from_batches(batches).rebalance().collect()

    _, table = run(build, world, step_bytes=20_000)

    if world.rank == 0:
        assert_same_rows(table, {"w": words})


def test_a_job_runs_again_and_again_in_one_process(world):
    job, collected = diamond()

    for _ in range(10):
        job.run(comm=world, show=False, progress=False)

        if world.rank == 0:
            assert collected.table.num_rows == N_ROWS


def test_rows_are_where_they_were_collected_or_everywhere(world):
    job = hs.Job("everywhere")
    stream = numbers(job)
    here, everywhere = stream.collect(), stream.collect(everywhere=True)
    with pytest.raises(RuntimeError, match=r"no rows before job\.run\(\)"):
        _ = everywhere.table

    job.run(comm=world, show=False, progress=False)

    assert_same_rows(everywhere.table, ALL_ROWS)
    if world.rank:
        assert here.table.num_rows == 0
        assert here.table.schema == everywhere.table.schema
        assert f"on rank 0, and this is rank {world.rank} of" in repr(here)
    else:
        assert here.table.equals(everywhere.table)


def test_communicators_are_renewed_while_the_job_runs(world, monkeypatch):
    monkeypatch.setattr(RenewedCommunicator.__init__, "__defaults__", (32,))

    for build in (diamond, groups):
        _, table = run(build, world, batch_rows=100)

        if world.rank == 0:
            assert_same_rows(table, ALL_ROWS)


def test_parts_of_the_world_run_jobs_of_their_own(world):
    color = world.rank % 2
    part = world.Split(color, world.rank)

    result, table = run(diamond if color else groups, part)

    assert result.ranks == part.size
    if part.rank == 0:
        assert_same_rows(table, ALL_ROWS)
    part.Free()


def test_a_live_source_ends_on_all_ranks(world):
    def build():
        job = hs.Job("live")
        rows = job.generate(lambda start, n: {"x": range(start, start + n)}, rows=400, rate=4000)
        return job, rows.rebalance().collect()

    _, table = run(build, world)

    if world.rank == 0:
        assert_same_rows(table, {"x": list(range(400))})


def failing_on(rank, world):
    """Return what builds a job that fails in a user's function on one rank."""

    def check(batch):
        if world.rank == rank and 1500 in batch["x"].to_pylist():
            raise ArithmeticError("1500 is too much")
        return batch

    def build():
        job = hs.Job("failing")
        step = N_ROWS // 10
        every_rank = [{"x": list(range(start, start + step))} for start in range(0, N_ROWS, step)]
        batches = [pa.record_batch(batch) for batch in every_rank]
        stream = job.from_batches(batches, per_rank=True).map_batches(check)
        return job, stream.rebalance().collect()

    return build


@pytest.mark.parametrize("failing", ["first", "last"])
def test_a_failure_on_one_rank_is_one_on_all_and_the_next_job_runs(world, failing):
    rank = 0 if failing == "first" else world.size - 1

    with pytest.raises((ArithmeticError, RemoteError)) as caught:
        run(failing_on(rank, world), world, batch_rows=100)

    if world.rank == rank:
        assert type(caught.value) is ArithmeticError
        assert any(f"on rank {rank} of {world.size}" in note for note in caught.value.__notes__)
    else:
        assert f"rank {rank}: ArithmeticError: 1500 is too much" in str(caught.value)
    _, table = run(diamond, world)
    assert (table is None) if world.rank else (table.num_rows == N_ROWS)


def test_a_split_that_cannot_be_opened_fails_on_all_ranks(world):
    def build():
        job = hs.Job("unreadable")
        source = ListSource([[OSError("cut off"), {"x": [1]}]])
        return job, job.source(source).rebalance().collect()

    with pytest.raises((OSError, RemoteError), match="cut off"):
        run(build, world)


def test_ranks_that_build_different_jobs_are_refused(world):
    def build():
        job = hs.Job("differing")
        return job, numbers(job).filter(col("x") > world.rank).collect()

    if world.size == 1:
        assert run(build, world)[0].rows_in == N_ROWS
        return
    with pytest.raises(PlanError, match="rank 1 built another job than rank 0"):
        run(build, world)
