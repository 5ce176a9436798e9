"""What a job does with its checkpoint directory: goes on, falls back, refuses, stops."""

from __future__ import annotations

import random
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

import hpcstream as hs
from hpcstream import col
from hpcstream.checkpoint import writer as cut_writer
from hpcstream.checkpoint.format import CheckpointError
from hpcstream.checkpoint.storage.directory import CheckpointStore
from hpcstream.checkpoint.storage.manifest import read_manifest, write_manifest
from hpcstream.cli import main
from hpcstream.errors import JobStopped, PlanError
from hpcstream.testing import (
    Fail,
    InjectedFailure,
    ManualClock,
    assert_same_rows,
    run_ranks,
    start_ranks,
)

sys.path.insert(0, str(Path(__file__).parent))
from restart import JOBS, OPTIONS, generated, rows, sliding, unfailed, visible


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The output of `sliding` on two ranks when nothing happens."""
    return unfailed(sliding, tmp_path_factory.mktemp("expected"), 2)[0]


def options(tmp_path, **more):
    run = str(tmp_path / "run")
    return {"checkpoint_dir": run, "clock": ManualClock(turn_s=0.01), **OPTIONS} | more


def start(build, tmp_path, n_ranks=2, **more):
    return start_ranks(n_ranks, lambda: build(tmp_path / "out"), **options(tmp_path, **more))


def stored(tmp_path):
    return CheckpointStore(str(tmp_path / "run")).stored()


def kill_with_checkpoints(build, tmp_path, n_ranks=2, at_least=3):
    with start(build, tmp_path, n_ranks) as ranks:
        store = CheckpointStore(str(tmp_path / "run"))
        ranks.until(lambda: Path(store.directory).exists() and store.next_number() > at_least + 1)


def test_a_finished_job_does_nothing_when_it_is_started_again_and_says_so(tmp_path, capsys):
    run = start(sliding, tmp_path)
    first = run.finish().result
    before = visible(tmp_path / "out")

    again = start(sliding, tmp_path).finish().result

    assert "is finished already" in capsys.readouterr().err
    assert again.rows_in == first.rows_in
    assert again.rows_out == first.rows_out
    assert visible(tmp_path / "out").equals(before)


def test_a_directory_belongs_to_the_job_of_one_name_and_a_refused_start_leaves_no_mark(tmp_path):
    def renamed(out):
        job = sliding(out)
        job.name = "another"
        return job

    start(sliding, tmp_path).finish()
    before = sorted((tmp_path / "run").iterdir())

    refused = r"run' belongs to job 'sliding', this is 'another': use another directory, or give"
    for more in ({}, {"allow_dropped_state": True}, {"restore_from": stored(tmp_path)[0].path}):
        with pytest.raises(CheckpointError, match=refused):
            start(renamed, tmp_path, **more).finish()
    assert sorted((tmp_path / "run").iterdir()) == before
    start(renamed, tmp_path, restore_from=None).finish()
    with pytest.raises(CheckpointError, match="belongs to job 'another', this is 'sliding'"):
        start(sliding, tmp_path).finish()


def test_a_checkpoint_without_a_name_is_any_jobs(tmp_path):
    start(sliding, tmp_path).finish()
    for one in stored(tmp_path):
        write_manifest(one.path, replace(read_manifest(one.path), job=""))

    assert start(sliding, tmp_path).finish().result.was_finished


@pytest.mark.parametrize("build", JOBS)
def test_a_finished_job_is_finished_on_any_number_of_ranks(build, tmp_path):
    start(build, tmp_path).finish()

    result = start(build, tmp_path, n_ranks=3).finish().result

    assert str(result) == f"{result.name}: was finished already; nothing to do"
    assert result.rows_per_second == 0


@pytest.mark.parametrize("dropping", [False, True])
def test_a_finished_job_with_another_plan_does_not_finish_without_rows(dropping, tmp_path):
    def more(out):
        job = changed(out)
        generated(job).select("n").write_parquet(out.parent / "more")
        return job

    start(changed, tmp_path).finish()

    for build in (more, lambda out: changed(out, size="2s")):
        with pytest.raises(PlanError, match=r"was finished with .*restore_from=None"):
            start(build, tmp_path, allow_dropped_state=dropping).finish()


def test_the_rate_after_a_restart_is_that_of_the_rows_read_since(tmp_path):
    kill_with_checkpoints(sliding, tmp_path)

    result = start(sliding, tmp_path).finish().result

    assert result.rows_in == 6000
    assert 0 < result.rows_before < 6000
    assert result.rows_per_second == (6000 - result.rows_before) / result.seconds
    assert f"6,000 ({result.rows_before:,} before this start)" in str(result)


def test_restore_from_none_starts_a_finished_job_afresh(tmp_path):
    start(sliding, tmp_path).finish()
    before = visible(tmp_path / "out")

    start(sliding, tmp_path, restore_from=None).finish()

    assert visible(tmp_path / "out").equals(before)


@pytest.mark.parametrize("seed", range(6))
def test_a_power_cut_that_damages_the_newest_checkpoint_goes_back_to_the_one_before(
    seed, expected, tmp_path, capsys
):
    kill_with_checkpoints(sliding, tmp_path)
    chance = random.Random(seed)
    newest = stored(tmp_path)[0]
    victim = chance.choice(sorted(Path(newest.path).iterdir()))
    whole = victim.read_bytes()
    if seed % 2:
        victim.write_bytes(whole[: chance.randrange(len(whole))])
    else:
        position = chance.randrange(len(whole))
        victim.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])

    start(sliding, tmp_path).finish()

    said = capsys.readouterr().err
    assert f"checkpoint damaged: {victim}" in said
    assert visible(tmp_path / "out").equals(expected)


def test_when_no_checkpoint_is_whole_the_job_refuses_to_begin_from_nothing(tmp_path):
    kill_with_checkpoints(sliding, tmp_path)
    for one in stored(tmp_path):
        Path(one.path, "manifest.json").write_text("{}")

    with pytest.raises(CheckpointError, match=r"no checkpoint of .* is whole"):
        start(sliding, tmp_path).finish()


def test_who_went_back_and_was_killed_goes_on_from_there_not_from_what_no_longer_fits(
    expected, tmp_path, capsys
):
    kill_with_checkpoints(sliding, tmp_path)
    newest, *_, oldest = stored(tmp_path)
    back = start(sliding, tmp_path, restore_from=oldest.path, checkpoint_interval_s=1e6)
    with back as ranks:
        assert ranks.until(lambda: ranks.workers and min(ranks.rounds, default=0) > 2)
    assert newest in stored(tmp_path), "it was killed before it could take a checkpoint"

    with pytest.raises(CheckpointError, match="no longer fits the output"):
        start(sliding, tmp_path, restore_from=newest.path).finish()
    assert main(["checkpoints", "ls", str(tmp_path / "run")]) == 0
    assert "void: a later start went back behind it" in capsys.readouterr().out.splitlines()[0]
    start(sliding, tmp_path).finish()

    assert f"going on from {oldest.path}" in capsys.readouterr().err
    assert visible(tmp_path / "out").equals(expected)
    assert not Path(newest.path).exists() or newest not in stored(tmp_path)


def test_who_went_on_from_elsewhere_does_not_go_on_from_what_is_here(expected, tmp_path):
    kill_with_checkpoints(sliding, tmp_path)
    (tmp_path / "moved").mkdir()
    moved = shutil.copytree(stored(tmp_path)[-1].path, tmp_path / "moved" / "ckpt-000001")
    elsewhere = {"restore_from": str(moved), "checkpoint_interval_s": 1e6}
    with start(sliding, tmp_path, **elsewhere) as ranks:
        assert ranks.until(lambda: ranks.workers and min(ranks.rounds, default=0) > 2)

    with pytest.raises(CheckpointError, match="give restore_from=PATH of that checkpoint"):
        start(sliding, tmp_path).finish()
    start(sliding, tmp_path, restore_from=str(moved)).finish()

    assert visible(tmp_path / "out").equals(expected)


def test_latest_needs_a_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint in"):
        start(sliding, tmp_path, restore_from="latest").finish()


def test_a_disk_that_is_full_costs_a_checkpoint_but_not_the_job(
    expected, tmp_path, capsys, monkeypatch
):
    calls = iter(range(1000))
    write = cut_writer.write_file

    def full_at_first(path, sections):
        if next(calls) in (1, 2, 5):
            raise OSError(28, "No space left on device")
        return write(path, sections)

    monkeypatch.setattr(cut_writer, "write_file", full_at_first)
    start(sliding, tmp_path).finish()

    assert "No space left on device; the job goes on" in capsys.readouterr().err
    assert visible(tmp_path / "out").equals(expected)


def test_a_disk_that_is_full_ends_the_job_if_that_is_wanted(tmp_path, monkeypatch):
    def full(path, sections):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cut_writer, "write_file", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        start(sliding, tmp_path, on_checkpoint_failure="stop").finish()


def test_collected_rows_survive_a_restart(tmp_path):
    def build():
        job = hs.Job("collects")
        windows = generated(job).key_by("n").window(hs.tumbling("100ms"))
        return job, windows.agg(total=col("x").sum()).collect()

    expected = run_ranks(2, build, batch_rows=OPTIONS["batch_rows"]).table
    with start_ranks(2, build, **options(tmp_path)) as ranks:
        ranks.until(lambda: ranks.workers and min(ranks.rounds, default=0) > 25)

    table = start_ranks(2, build, **options(tmp_path)).finish().table

    assert table.equals(expected)


def test_a_job_that_fails_in_the_middle_goes_on_from_its_last_checkpoint(expected, tmp_path):
    ranks = start(sliding, tmp_path, faults=[Fail(rank=1, round=30)])
    with pytest.raises(InjectedFailure):
        ranks.finish()
    assert ranks.is_drained, "no collective of a checkpoint may be left under way"

    start(sliding, tmp_path).finish()

    assert visible(tmp_path / "out").equals(expected)


def grouped(out):
    job = hs.Job("groups")
    stream = generated(job).on(ranks=[0, 2])
    windows = stream.key_by("n").window(hs.tumbling("500ms")).agg(total=col("x").sum())
    windows.on(ranks=[1]).write_parquet(out)
    return job


@pytest.mark.parametrize("sizes", [(4, 4), (4, 2), (1, 3)])
def test_rank_groups_and_ranks_without_tasks_take_part(sizes, tmp_path):
    alone, _ = unfailed(grouped, tmp_path, sizes[1])
    kill_with_checkpoints(grouped, tmp_path, sizes[0])

    start(grouped, tmp_path, sizes[1]).finish()

    assert_same_rows(visible(tmp_path / "out"), alone, rtol=1e-12)


# -- changed plans ---------------------------------------------------------------------------


def changed(out, *, size="1s", name=None, extra=False):
    job = hs.Job("changed")
    stream = generated(job)
    if extra:
        stream = stream.filter(col("n") >= 0)
    windows = stream.key_by("key").window(hs.tumbling(size)).agg(total=col("x").sum())
    (windows if name is None else windows.named(name)).write_parquet(out)
    return job


def test_a_plan_that_changed_around_an_operator_keeps_its_state(tmp_path):
    unchanged, _ = unfailed(changed, tmp_path, 2)
    kill_with_checkpoints(changed, tmp_path)

    start(lambda out: changed(out, extra=True), tmp_path).finish()

    assert_same_rows(visible(tmp_path / "out"), unchanged, rtol=1e-12)


def test_state_that_the_plan_has_no_place_for_is_refused_unless_that_is_allowed(tmp_path):
    kill_with_checkpoints(changed, tmp_path)

    def other(out):
        return changed(out, size="2s")

    with pytest.raises(PlanError, match=r"has state of what the plan does not have: .*tumbling"):
        start(other, tmp_path).finish()
    start(other, tmp_path, allow_dropped_state=True).finish()


def test_a_name_does_not_hand_state_to_an_operator_that_does_something_else(tmp_path):
    kill_with_checkpoints(lambda out: changed(out, name="totals"), tmp_path)

    def other(out):
        return changed(out, size="2s", name="totals")

    with pytest.raises(PlanError, match=r"'totals: .*tumbling\(1s\).* now .*tumbling\(2s\)"):
        start(other, tmp_path).finish()
    start(other, tmp_path, allow_dropped_state=True).finish()


def test_state_of_other_types_is_not_taken_over(tmp_path):
    def typed(out, cast):
        job = hs.Job("typed")
        keys = generated(job).with_columns(n=col("n").cast(cast)).key_by("key")
        keys.window(hs.tumbling("1s")).agg(total=col("n").sum()).write_parquet(out)
        return job

    kill_with_checkpoints(lambda out: typed(out, pa.int64()), tmp_path)

    with pytest.raises(PlanError, match=r"sum.n. int64.* is now .*sum.n. float64"):
        start(lambda out: typed(out, pa.float64()), tmp_path).finish()


def test_a_source_that_reads_something_else_is_not_taken_over(tmp_path):
    def read(out, n_rows):
        job = hs.Job("reads")
        generated(job, n_rows).named("numbers").select("n").write_parquet(out)
        return job

    kill_with_checkpoints(lambda out: read(out, 6000), tmp_path)

    with pytest.raises(PlanError, match=r"'numbers' .*rows=6000.* it has .*rows=7000"):
        start(lambda out: read(out, 7000), tmp_path).finish()


def test_a_name_finds_the_state_again_where_the_description_would_not(tmp_path):
    unchanged, _ = unfailed(lambda out: changed(out, name="totals"), tmp_path, 2)
    kill_with_checkpoints(lambda out: changed(out, name="totals"), tmp_path)

    def with_another_before(out):
        job = hs.Job("changed")
        stream = generated(job)
        other = stream.key_by("key").window(hs.tumbling("1s")).agg(total=col("x").sum())
        other.named("others").write_parquet(out.parent / "others")
        windows = stream.key_by("key").window(hs.tumbling("1s")).agg(total=col("x").sum())
        windows.named("totals").write_parquet(out)
        return job

    start(with_another_before, tmp_path).finish()

    assert_same_rows(visible(tmp_path / "out"), unchanged, rtol=1e-12)


# -- savepoints and stopping -----------------------------------------------------------------


def test_stop_after_savepoint_stops_and_a_later_run_goes_on(expected, tmp_path):
    with pytest.raises(JobStopped) as stopped:
        start(sliding, tmp_path, stop_after_savepoint=True).finish()
    assert stopped.value.code == 0
    (one,) = stored(tmp_path)
    assert one.kind == "savepoint"

    start(sliding, tmp_path, restore_from=one.path).finish()

    assert visible(tmp_path / "out").equals(expected)


def test_a_live_source_goes_on_where_its_rounds_ended(tmp_path):
    def build():
        job = hs.Job("live")
        stream = job.generate(
            rows, rows=3000, rate=1e5, event_time="t", event_time_unit="ms", splits=3
        )
        windows = stream.key_by("n").window(hs.tumbling("100ms")).agg(rows=hs.count())
        return job, windows.collect()

    for _ in range(30):
        left = iter(range(1500))
        with start_ranks(2, build, **options(tmp_path, clock=ManualClock(turn_s=2e-5))) as ranks:
            if not ranks.until(lambda left=left: next(left, None) is None):
                table = ranks.finish().table
                break

    assert sum(table["rows"].to_pylist()) == 3000
    assert isinstance(table, pa.Table)


# -- the command line ------------------------------------------------------------------------


def test_the_command_lists_shows_verifies_and_removes_without_mpi(tmp_path, capsys):
    start(sliding, tmp_path).finish()
    directory = str(tmp_path / "run")
    newest = stored(tmp_path)[0].number

    assert main(["checkpoints", "ls", directory]) == 0
    assert f"ckpt-{newest:06d}" in capsys.readouterr().out
    assert main(["checkpoints", "show", directory]) == 0
    shown = capsys.readouterr().out
    assert "operators" in shown
    assert "6,000 rows read" in shown
    assert "watermark end of stream" in shown.splitlines()[2]
    assert main(["checkpoints", "verify", directory, str(newest)]) == 0
    assert "whole" in capsys.readouterr().out

    victim = Path(stored(tmp_path)[0].path, "rank-00001.h5")
    victim.write_bytes(victim.read_bytes()[:-1])
    assert main(["checkpoints", "verify", directory, str(newest)]) == 1
    assert "DAMAGED" in capsys.readouterr().out
    assert main(["checkpoints", "rm", directory, str(newest)]) == 0
    assert newest not in [one.number for one in stored(tmp_path)]
    assert main(["checkpoints", "ls", str(tmp_path / "nowhere")]) == 2


def test_the_last_manifest_says_that_the_job_is_finished(tmp_path):
    start(sliding, tmp_path).finish()

    manifest = read_manifest(stored(tmp_path)[0].path)

    assert manifest.finished
    assert manifest.facts["rows_in"] == 6000
