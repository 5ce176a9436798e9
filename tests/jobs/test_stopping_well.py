"""Real jobs on two ranks that are told to stop, asked for savepoints, or lose a rank."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hpcstream.launch.supervise import _living_processes as living_processes
from hpcstream.launch.supervise import descendants, kill_tree
from hpcstream.testing import assert_same_rows

JOB = Path(__file__).parents[1] / "chaos" / "job.py"
HPCSTREAM = [sys.executable, "-m", "hpcstream"]
GIVE_UP_S = 120

STUCK = """
import sys, time
import pyarrow as pa
import hpcstream as hs

def stuck(batch):
    print("stuck", flush=True)
    time.sleep(600)
    return batch

job = hs.Job("stuck")
rows = job.generate(lambda start, n: {"t": range(start, start + n)}, rows=9, splits=2)
rows.map_batches(stuck, schema=pa.schema([("t", pa.int64())])).collect()
job.run(show=False)
"""


class Started:
    """A job that `hpcstream run` started; its output so far is ``said``."""

    def __init__(
        self, folder: Path, *options: str, script: Path = JOB, pace_s: float = 0.01
    ) -> None:
        self.log = folder / "log"
        arguments = [str(folder / "out"), str(folder / "run")] if script == JOB else []
        command = [*HPCSTREAM, "run", "-n", "2", *options, str(script), *arguments]
        with self.log.open("w") as log:
            environ = {**os.environ, "CHAOS_JOB_PACE_S": str(pace_s)}
            self.process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *_: object) -> None:
        kill_tree(self.process.pid)
        self.process.wait()

    @property
    def said(self) -> str:
        return self.log.read_text()

    def until(self, is_so) -> None:
        give_up = time.monotonic() + GIVE_UP_S
        while not is_so():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < give_up, self.said
            time.sleep(0.01)

    def ends(self) -> int:
        return self.process.wait(GIVE_UP_S)


def manifests(folder: Path) -> set[Path]:
    return set((folder / "run").glob("*/manifest.json"))


def visible(out: Path) -> pa.Table:
    return pa.concat_tables(pq.read_table(path) for path in sorted(out.glob("*.parquet")))


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*HPCSTREAM, *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    with Started(folder) as job:
        assert job.ends() == 0, job.said
    return visible(folder / "out")


def test_each_signal_ends_the_job_with_its_status_and_the_next_start_goes_on(expected, tmp_path):
    for number, status in ((signal.SIGTERM, 75), (signal.SIGUSR2, 75), (signal.SIGINT, 130)):
        before = manifests(tmp_path)
        with Started(tmp_path) as job:
            job.until(lambda before=before: manifests(tmp_path) - before)
            job.process.send_signal(number)
            assert job.ends() == status, job.said
            assert "stopped, to go on from" in job.said
            assert ("going on from" in job.said) is bool(before)

    with Started(tmp_path) as job:
        assert job.ends() == 0, job.said
    assert_same_rows(visible(tmp_path / "out"), expected, rtol=1e-12)


def test_a_second_interrupt_ends_a_job_that_does_not_come_to_its_checkpoint(tmp_path):
    script = tmp_path / "job.py"
    script.write_text(STUCK)
    with Started(tmp_path, script=script) as job:
        job.until(lambda: "stuck" in job.said)
        job.process.send_signal(signal.SIGINT)
        time.sleep(1.0)
        assert job.process.poll() is None, "the first one waits for the job"
        ranks = descendants(job.process.pid)
        job.process.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert job.ends() == 130
        assert time.monotonic() - began < 10
    assert not set(ranks) & {pid for pid, _ in living_processes()}


def test_one_signal_ends_ranks_whose_functions_hang_after_the_grace_time(tmp_path):
    script = tmp_path / "job.py"
    script.write_text(STUCK)
    with Started(tmp_path, "--stop-grace", "1", script=script) as job:
        job.until(lambda: "stuck" in job.said)
        job.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert job.ends() == 143, job.said
        assert time.monotonic() - began < 20
    assert "gave no answer for 1 s (stop_grace_s=1): ended in stuck (job.py, line 8)" in job.said


def test_a_running_job_is_asked_for_savepoints_and_its_directory_looked_at(expected, tmp_path):
    run = tmp_path / "run"
    with Started(tmp_path, pace_s=0.1) as job:
        job.until(lambda: manifests(tmp_path))
        asked = command("savepoint", run)
        assert asked.returncode == 0, asked.stderr
        savepoint = Path(asked.stdout.strip())
        assert (savepoint / "manifest.json").exists()
        stopped = command("savepoint", "--stop", run)
        assert stopped.returncode == 0, stopped.stderr
        assert job.ends() == 0, job.said
    last = Path(stopped.stdout.strip())
    listed = command("checkpoints", "ls", run).stdout
    assert listed.startswith(last.name), "the newest comes first"
    assert savepoint.name in listed
    assert "operators" in command("checkpoints", "show", run).stdout
    assert command("checkpoints", "verify", run).returncode == 0
    assert command("checkpoints", "rm", run, int(savepoint.name[-6:])).returncode == 0
    assert not savepoint.exists()
    assert "no job runs" in command("savepoint", run).stderr

    with Started(tmp_path) as job:
        assert job.ends() == 0, job.said
    assert_same_rows(visible(tmp_path / "out"), expected, rtol=1e-12)


def test_a_savepoint_is_not_waited_for_once_the_job_has_ended(tmp_path):
    with Started(tmp_path, pace_s=0.1) as job:
        job.until(lambda: manifests(tmp_path))
        ranks = [pid for pid in descendants(job.process.pid) if runs_job(pid)]
        for pid in ranks:  # so that the request is still there when the job ends
            os.kill(pid, signal.SIGSTOP)
        asked = subprocess.Popen(
            [*HPCSTREAM, "savepoint", str(tmp_path / "run")], stderr=subprocess.PIPE, text=True
        )
        job.until(lambda: (tmp_path / "run" / "savepoint-request.json").exists())
        (tmp_path / "run" / "job.lock").unlink()  # as a job does that ends
        _, said = asked.communicate(timeout=GIVE_UP_S)

    assert asked.returncode == 2
    assert "ended without a savepoint" in said
    assert not (tmp_path / "run" / "savepoint-request.json").exists()


def test_a_job_that_loses_a_rank_goes_on_by_itself_with_one_less(expected, tmp_path):
    options = ("--checkpoint-dir", str(tmp_path / "run"), "--restarts", "3", "--shrink")
    with Started(tmp_path, *options) as job:
        job.until(lambda: manifests(tmp_path))
        is_rank = [p for p in descendants(job.process.pid) if runs_job(p)]
        os.kill(is_rank[-1], signal.SIGKILL)
        assert job.ends() == 0, job.said

    assert "restart 1 of 3 on 1 rank from checkpoint" in job.said
    assert "of 2 ranks, round" in job.said
    assert "finished after 1 restarts" in job.said
    assert_same_rows(visible(tmp_path / "out"), expected, rtol=1e-12)


def runs_job(pid: int) -> bool:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return words[1:2] == [str(JOB).encode()]
