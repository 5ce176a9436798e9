"""Checkpoints on a disk that is full, gone or closed: the job says so, nothing is half there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hpcstream.checkpoint.storage.directory import CheckpointStore, verify

JOB = Path(__file__).parent / "failing_disk.py"


def run(how, tmp_path, *options):
    """Run the job; return its exit status and what it said."""
    command = [sys.executable, str(JOB), how, str(tmp_path / "out"), str(tmp_path / "run")]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=300)
    return done.returncode, done.stderr


def visible_rows(tmp_path):
    return sum(pq.read_table(path).num_rows for path in (tmp_path / "out").glob("*.parquet"))


def all_whole(tmp_path):
    stored = CheckpointStore(str(tmp_path / "run")).stored()
    return all(isinstance(found, int) for one in stored for _, found in verify(one.path))


def test_a_full_disk_costs_checkpoints_but_not_the_job(tmp_path):
    status, said = run("full", tmp_path)

    assert "failed: rank 0: OSError: [Errno 27] File too large" in said
    assert "the job goes on, and tries again in 0.1 s" in said
    assert status == 0, said
    assert visible_rows(tmp_path) == 20_000
    assert all_whole(tmp_path)


def test_a_full_disk_ends_the_job_if_that_is_wanted(tmp_path):
    status, said = run("full", tmp_path, "on_checkpoint_failure=stop")

    assert status == 1
    assert "CheckpointError: checkpoint" in said
    assert "File too large" in said
    assert visible_rows(tmp_path) == 0
    assert all_whole(tmp_path)

    status, said = run("not", tmp_path)
    assert status == 0, said
    assert "going on from" in said
    assert visible_rows(tmp_path) == 20_000


def test_a_directory_that_goes_away_is_missed(tmp_path):
    status, said = run("gone", tmp_path)

    assert status == 1, "what was written cannot be committed without it"
    assert "No such file or directory" in said
    assert visible_rows(tmp_path) == 0
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_is_closed_to_us_is_named(tmp_path):
    (tmp_path / "run").mkdir(mode=0o500)

    status, said = run("not", tmp_path)

    assert status == 1
    assert "is not writable" in said
