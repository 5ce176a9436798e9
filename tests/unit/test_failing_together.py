"""One rank fails: every rank ends, one with its own error, and nothing is left under way."""

from __future__ import annotations

import sys

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hpcstream as hs
from hpcstream import col
from hpcstream.errors import EarlyExit, PlanError, RemoteError
from hpcstream.process.failure import failure_of
from hpcstream.testing import (
    Fail,
    InjectedFailure,
    Kill,
    ListSink,
    ListSource,
    ManualClock,
    RankKilled,
    StepSource,
    run_ranks,
    start_ranks,
)

SCHEMA = pa.schema({"x": pa.int64()})
SPLITS = [[{"x": list(range(start, start + 10))}] for start in range(0, 200, 10)]


def collecting(splits=SPLITS):
    def build():
        job = hs.Job("failing")
        stream = job.source(ListSource(splits, schema=SCHEMA)).rebalance()
        stream = stream.union(stream.filter(col("x") < 0).rebalance())
        return job, stream.collect()

    return build


def errors_of(n_ranks, build, **options):
    """Run a job that fails; return each rank's error."""
    options.setdefault("batch_rows", 10)
    with start_ranks(n_ranks, build, progress=False, **options) as ranks:
        ranks.until(lambda: False)
        assert ranks.waiting == []
        assert ranks.is_drained
        return ranks.errors


def check_one_own_error(errors, n_ranks, rank, kind):
    """One rank has its own error; the others name it."""
    assert sorted(errors) == list(range(n_ranks))
    assert type(errors[rank]) is kind
    for other in set(errors) - {rank}:
        assert type(errors[other]) is RemoteError
        assert f"rank {rank}: {kind.__name__}" in str(errors[other])


@given(
    n_ranks=st.integers(1, 5),
    data=st.data(),
    round_number=st.integers(0, 4),
    seed=st.integers(0, 2**16),
    max_delay=st.sampled_from([0, 20]),
    rounds_in_flight=st.sampled_from([1, 3]),
)
@settings(max_examples=15)
def test_an_error_in_any_task_and_round_ends_all_ranks(
    n_ranks, data, round_number, seed, max_delay, rounds_in_flight
):
    rank = data.draw(st.integers(0, n_ranks - 1))
    task = data.draw(st.sampled_from([0, 1, -1]))
    fault = Fail(rank=rank, round=round_number, task=task)

    errors = errors_of(
        n_ranks,
        collecting(),
        faults=[fault],
        seed=seed,
        max_delay=max_delay,
        rounds_in_flight=rounds_in_flight,
    )

    check_one_own_error(errors, n_ranks, rank, InjectedFailure)


def test_the_error_says_where_it_happened():
    errors = errors_of(3, collecting(), faults=[Fail(rank=1, round=2)])

    (note,) = errors[1].__notes__
    assert "in task 0 (ListSource(20 splits)" in note
    assert "round 2" in note
    assert "on rank 1 of 3" in note


def test_of_ranks_that_fail_by_themselves_one_shows_it_and_names_the_others():
    def build():
        job = hs.Job("cast")
        splits = [[{"x": [f"country {number}"] * 10}] for number in range(7)]
        source = ListSource(splits, schema=pa.schema({"x": pa.string()}))
        job.source(source).with_columns(y=col("x").cast("int64")).collect()
        return job

    errors = errors_of(7, build)

    assert {type(error) for error in errors.values()} == {pa.ArrowInvalid}
    assert [rank for rank in range(7) if not failure_of(errors[rank]).is_shown] == [0]
    notes = [note for note in errors[0].__notes__ if note.startswith("also failed on")]
    assert len(notes) == 5
    assert notes[0].startswith("also failed on rank 1: ArrowInvalid: Failed to parse string: 'c")
    assert notes[-1] == "also failed on 2 more ranks"
    assert not any("also failed" in note for note in errors[3].__notes__)


@pytest.mark.parametrize("round_number", [40, 63, 64, 65])
def test_an_error_in_the_last_rounds_is_not_lost(round_number):
    with start_ranks(
        2, collecting(), batch_rows=10, faults=[Fail(rank=0, round=round_number, task=-1)]
    ) as ranks:
        ranks.until(lambda: False)
        last = ranks.rounds[0]

    if round_number < last:
        check_one_own_error(ranks.errors, 2, 0, InjectedFailure)
    else:
        assert ranks.errors == {}


@pytest.mark.parametrize(("rank", "task"), [(0, -1), (2, 0)])
def test_two_ranks_may_fail_at_once(rank, task):
    faults = [Fail(rank=rank, round=1, task=task), Fail(rank=1, round=1)]

    errors = errors_of(3, collecting(), faults=faults, max_delay=5)

    own = {r for r, error in errors.items() if type(error) is InjectedFailure}
    assert sorted(errors) == [0, 1, 2]
    assert own
    assert own <= {rank, 1}
    assert all(type(errors[r]) is RemoteError for r in set(errors) - own)


@pytest.mark.parametrize("seed", range(3))
def test_a_truncated_split_ends_all_ranks(seed):
    splits = [*SPLITS[:7], [{"x": [1, 2]}, OSError("split 7 is cut off")], *SPLITS[8:]]

    errors = errors_of(3, collecting(splits), seed=seed)

    check_one_own_error(errors, 3, 7 % 3, OSError)


def failing_sink(**options):
    def build():
        job = hs.Job("failing sink")
        stream = job.source(ListSource(SPLITS))
        number = build.calls
        build.calls += 1
        sink = ListSink(**(options if number == 1 else {}))
        build.sinks.append(sink)
        stream.rebalance().sink(sink)
        return job

    build.calls = 0
    build.sinks = []
    return build


@pytest.mark.parametrize("call", ["begin", "write", "prepare", "commit"])
def test_a_sink_that_fails_in_any_call_ends_all_ranks(call):
    build = failing_sink(fail_in=call)

    errors = errors_of(3, build)

    check_one_own_error(errors, 3, 1, RuntimeError)
    assert all("abort" in sink.calls for sink in build.sinks if "begin" in sink.calls)
    if call != "commit":
        assert all(sink.committed == [] for sink in build.sinks)


class Unlisted:
    schema = SCHEMA

    def list_splits(self):
        raise FileNotFoundError("no such directory: flights")

    def open(self, split, position=0):
        raise AssertionError("nothing to open")


def test_splits_that_cannot_be_listed_end_all_ranks_before_any_row():
    def build():
        job = hs.Job("unlisted")
        return job, job.source(Unlisted()).collect()

    errors = errors_of(3, build)

    check_one_own_error(errors, 3, 0, FileNotFoundError)
    assert any("listing the splits" in note for note in errors[0].__notes__)


def test_an_operator_that_cannot_be_made_on_one_rank_ends_all_ranks():
    def build():
        rank = build.calls
        build.calls += 1
        feed = StepSource(SCHEMA)
        if rank == 0:
            feed.open = lambda split, position=0: (_ for _ in ()).throw(OSError("no route"))
        job = hs.Job("setup")
        return job, job.source(feed).rebalance().collect()

    build.calls = 0

    errors = errors_of(3, build)

    check_one_own_error(errors, 3, 0, OSError)


def test_ranks_that_built_different_jobs_are_told_of_the_first_difference():
    def build():
        rank = build.calls
        build.calls += 1
        job = hs.Job("differing")
        limit = 5 if rank == 1 else 3
        return job, job.source(ListSource(SPLITS)).filter(col("x") > limit).collect()

    build.calls = 0

    errors = errors_of(3, build)

    assert sorted(errors) == [0, 1, 2]
    for error in errors.values():
        assert type(error) is PlanError
        assert "rank 1 built another job than rank 0" in str(error)
        assert "> 3" in str(error)
        assert "> 5" in str(error)


def test_a_plan_that_fails_on_one_rank_fails_on_all():
    def build():
        rank = build.calls
        build.calls += 1
        job = hs.Job("no sink")
        stream = job.source(ListSource(SPLITS))
        if rank != 1:
            stream.collect()
        return job

    build.calls = 0

    errors = errors_of(3, build)

    check_one_own_error(errors, 3, 1, PlanError)


def test_an_interrupt_in_a_users_function_ends_all_ranks():
    errors = errors_of(3, collecting(), faults=[Fail(rank=2, round=1, error=KeyboardInterrupt)])

    assert [type(errors[rank]) for rank in range(3)] == [
        RemoteError,
        RemoteError,
        KeyboardInterrupt,
    ]


@pytest.mark.parametrize(
    ("code", "status"), [(0, 1), (None, 1), (3, 3), (256, 1), ("no route", 1), (True, 1), (-1, 255)]
)
def test_an_exit_in_a_users_function_is_an_error_with_a_status_on_all_ranks(code, status):
    def leaves(batch):
        if batch.num_rows and batch["x"][0].as_py() >= 100:
            sys.exit(code)
        return batch

    def build():
        job = hs.Job("leaving")
        return job, job.source(ListSource(SPLITS)).map_batches(leaves).collect()

    errors = errors_of(2, build, batch_rows=10)

    own = next(error for error in errors.values() if isinstance(error, EarlyExit))
    assert "leaves (test_failing_together.py, line" in str(own)
    assert "on rank" in own.__notes__[0]
    assert {error.exit_status for error in errors.values()} == {status}
    assert all(failure_of(error).is_agreed for error in errors.values())


@pytest.mark.parametrize(
    "build",
    [
        lambda job, leaves: job.generate(leaves, rows=9),
        lambda job, leaves: job.from_batches(leaves),
        lambda job, f: (job.source(ListSource(SPLITS)).map_batches(f).collect(), job.explain()),
    ],
    ids=["generate", "from_batches", "map_batches"],
)
def test_an_exit_while_the_job_is_built_is_an_error_too(build):
    def leaves(*_):
        sys.exit(0)

    with pytest.raises(EarlyExit, match=r"leaves \(test_failing_together.py, line \d+\)"):
        build(hs.Job("leaving"), leaves)


@pytest.mark.parametrize("method", ["begin", "prepare", "commit"])
def test_leaving_in_a_sink_ends_all_ranks_with_the_same_code(method):
    class Leaves:
        def __init__(self, rank):
            self.rank = rank

        def write(self, batch):
            """Take rows."""

    def leave(*arguments):
        raise SystemExit(7)

    def build():
        sink = Leaves(build.calls)
        if build.calls == 1:
            setattr(sink, method, leave)
        build.calls += 1
        job = hs.Job("leaving")
        job.source(ListSource(SPLITS)).sink(sink)
        return job

    build.calls = 0

    errors = errors_of(3, build)

    assert sorted(type(error).__name__ for error in errors.values()) == [
        "EarlyExit", "RemoteError", "RemoteError",
    ]  # fmt: skip
    assert {error.exit_status for error in errors.values()} == {7}


def test_a_live_job_fails_together_even_while_all_ranks_rest():
    feed, sink = StepSource(SCHEMA, n_splits=2), ListSink()

    def build():
        job = hs.Job("live")
        job.source(feed).rebalance().sink(sink)
        return job

    with start_ranks(3, build, clock=ManualClock(turn_s=1e-5), progress=False) as ranks:
        for _ in range(500):
            ranks._turns.step()
        feed.push({"x": [1]})
        feed.fail(ConnectionError("the broker is gone"), split=1)
        ranks.until(lambda: False)

        assert ranks.waiting == []
        assert ranks.is_drained
    check_one_own_error(ranks.errors, 3, 1, ConnectionError)


def test_a_failed_job_runs_again():
    build = collecting()
    errors_of(2, build, faults=[Fail(rank=0, round=1)])

    with start_ranks(2, build, batch_rows=10) as ranks:
        assert ranks.finish().table.num_rows == 200


def test_a_killed_rank_is_named():
    with start_ranks(3, collecting(), batch_rows=10, faults=[Kill(rank=1, round=2)]) as ranks:
        with pytest.raises(RankKilled, match="rank 1 was killed in round 2"):
            ranks.finish()

        assert set(ranks.errors) >= {1}


def test_a_rank_whose_peers_do_not_answer_ends_them_all(capsys):
    """The others are stuck outside of the engine, so they cannot agree on the failure."""
    faults = [Fail(rank=0, round=1), Kill(rank=1, round=1)]
    clock = ManualClock(turn_s=0.01)

    with start_ranks(
        2, collecting(), batch_rows=10, clock=clock, faults=faults, progress=False
    ) as ranks:
        ranks.until(lambda: False)

    assert isinstance(ranks.errors[0], SystemExit)
    assert ranks._world.aborted == 1
    printed = capsys.readouterr().err
    assert "rank 0 failed and the other ranks did not answer within 5 s" in printed
    assert printed.count("InjectedFailure") == 1


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_sink_that_cannot_prepare_leaves_nothing_of_the_others_visible(ranks, tmp_path):
    class FullDisk:
        def write(self, batch):
            """Take rows, and lose them."""

        def prepare(self):
            raise OSError("disk full")

    def build():
        job = hs.Job("two sinks")
        rows = job.from_batches(pa.table({"x": [1, 2, 3]}))
        rows.write_parquet(tmp_path / "out")
        rows.sink(FullDisk())
        return job

    with pytest.raises(OSError, match="disk full"):
        run_ranks(ranks, build)

    assert list((tmp_path / "out").glob("*.parquet")) == []
