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

from hpcstream.launch import mpiexec
from hpcstream.launch.supervise import descendants, kill_tree
from hpcstream.testing import assert_same_rows

JOB = Path(__file__).parent / "job.py"
GIVE_UP_S = 300


def start(out, run, log, launcher=None):
    """Start the job: with a launcher on two ranks."""
    command = [sys.executable, str(JOB), str(out), *([str(run)] if run else [])]
    environ = dict(os.environ)
    if launcher is not None:
        command = mpiexec.command(launcher, 2, command, slots=0)
        environ = mpiexec.environment(launcher, environ)
    with open(log, "a") as file:
        return subprocess.Popen(command, env=environ, stdout=file, stderr=file)


def visible(out):
    parts = [pq.read_table(path) for path in sorted(out.glob("*.parquet"))]
    table = pa.concat_tables(parts)
    return table.sort_by([(name, "ascending") for name in table.schema.names])


def await_checkpoints(run, number):
    give_up = time.monotonic() + GIVE_UP_S
    while len(list(run.glob("ckpt-*/manifest.json"))) < number:
        assert time.monotonic() < give_up, "no checkpoint came"
        time.sleep(0.01)


def ranks_of(process):
    """Return the job's own processes, rank by rank."""
    found = {}
    for pid in descendants(process.pid):
        environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        for name in (b"OMPI_COMM_WORLD_RANK=", b"PMI_RANK="):
            own = [one for one in environ if one.startswith(name)]
            if own and str(JOB).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                found[int(own[0].removeprefix(name))] = pid
    return found


def test_a_stopped_rank_that_wakes_after_a_restart_commits_nothing(launcher, tmp_path):
    """Rank 0 is stopped with SIGSTOP, so nobody keeps the lock; its job is alive all the while."""
    out, run, log = tmp_path / "out", tmp_path / "run", tmp_path / "log"
    assert start(tmp_path / "expected", None, log).wait(GIVE_UP_S) == 0
    old = start(out, run, log, launcher)
    try:
        await_checkpoints(run, 2)
        ranks = ranks_of(old)
        os.kill(ranks[0], signal.SIGSTOP)
        new = start(out, run, log)
        assert new.wait(GIVE_UP_S) == 0, log.read_text()
        finished = visible(out)
        files = sorted(path.name for path in out.iterdir())
        assert old.poll() is None, "the old attempt is alive until it is woken"
        os.kill(ranks[0], signal.SIGCONT)
        status = old.wait(GIVE_UP_S)
    finally:
        kill_tree(old.pid)
        old.wait()

    assert status != 0
    said = log.read_text()  # which error depends on where it was stopped
    assert "was cut off" in said or "Error" in said
    assert visible(out).equals(finished)
    assert_same_rows(finished, visible(tmp_path / "expected"), rtol=1e-12)
    assert sorted(name for name in files if not name.startswith(".")) == sorted(
        path.name for path in out.iterdir() if not path.name.startswith(".")
    )


def test_two_jobs_cannot_run_in_one_directory(tmp_path):
    out, run, log = tmp_path / "out", tmp_path / "run", tmp_path / "log"
    first = start(out, run, log)
    try:
        await_checkpoints(run, 1)
        second = start(tmp_path / "other", run, tmp_path / "second")

        assert second.wait(GIVE_UP_S) == 1
        said = (tmp_path / "second").read_text()
        assert f"another job runs in '{run}': 'chaos', process {first.pid} on" in said
        assert first.wait(GIVE_UP_S) == 0, log.read_text()
    finally:
        first.kill()
        first.wait()
