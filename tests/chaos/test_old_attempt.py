"""An attempt that was cut off and wakes up again cannot commit anything."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

JOB = Path(__file__).parent / "job.py"


def start(out, run, log):
    command = [sys.executable, str(JOB), str(out), *([str(run)] if run else [])]
    with open(log, "a") as file:
        return subprocess.Popen(command, stdout=file, stderr=file)


def visible(out):
    parts = [pq.read_table(path) for path in sorted(out.glob("*.parquet"))]
    table = pa.concat_tables(parts)
    return table.sort_by([(name, "ascending") for name in table.schema.names])


def await_checkpoints(run, number):
    give_up = time.monotonic() + 60
    while len(list(run.glob("ckpt-*/manifest.json"))) < number:
        assert time.monotonic() < give_up, "no checkpoint came"
        time.sleep(0.01)


def test_a_stopped_process_that_wakes_after_a_restart_commits_nothing(tmp_path):
    out, run, log = tmp_path / "out", tmp_path / "run", tmp_path / "log"
    assert start(tmp_path / "expected", None, log).wait(120) == 0
    old = start(out, run, log)
    try:
        await_checkpoints(run, 2)
        os.kill(old.pid, signal.SIGSTOP)
        new = start(out, run, log)
        assert new.wait(120) == 0, log.read_text()
        finished = visible(out)
        files = sorted(path.name for path in out.iterdir())
        os.kill(old.pid, signal.SIGCONT)
        status = old.wait(120)
    finally:
        old.kill()
        old.wait()

    assert status == 1
    said = log.read_text()  # which error depends on where it was stopped
    assert "was cut off" in said or "Error" in said
    assert visible(out).equals(finished)
    assert finished.equals(visible(tmp_path / "expected"))
    assert sorted(name for name in files if not name.startswith(".")) == sorted(
        path.name for path in out.iterdir() if not path.name.startswith(".")
    )


def test_two_jobs_cannot_run_in_one_directory(tmp_path):
    out, run, log = tmp_path / "out", tmp_path / "run", tmp_path / "log"
    first = start(out, run, log)
    try:
        await_checkpoints(run, 1)
        second = start(tmp_path / "other", run, tmp_path / "second")

        assert second.wait(60) == 1
        said = (tmp_path / "second").read_text()
        assert f"another job runs in '{run}': 'chaos', process {first.pid} on" in said
        assert first.wait(120) == 0, log.read_text()
    finally:
        first.kill()
        first.wait()
