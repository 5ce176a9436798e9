"""Real ranks that fail, stand still, or lose their launcher."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from subprocess import DEVNULL

import pytest

from hpcstream.launch import mpiexec
from hpcstream.launch.quirks.openmpi import remove_session
from hpcstream.launch.supervise import descendants

LIMIT_S = 10

JOB = """
import os, sys, time
import pyarrow as pa
import hpcstream as hs

def rank():
    return int(os.environ.get("OMPI_COMM_WORLD_RANK", os.environ.get("PMI_RANK", "0")))

def of_rank_{rank}(batch):
    if batch.num_rows and rank() == {rank}:
        {action}
    return batch

job = hs.Job("lost")
rows = job.generate(
    lambda start, n: {{"t": range(start, start + n)}},
    {amount}, event_time="t", event_time_unit="ms",
)
mapped = rows.map_batches(of_rank_{rank}, schema=pa.schema([("t", pa.int64())]))
mapped.rebalance().collect()

if __name__ == "__main__":
    job.run({options})
"""


@pytest.fixture
def script(tmp_path):
    def write(
        action: str, *, rank: int = 0, amount: str = "rows=400_000", options: str = ""
    ) -> Path:
        path = tmp_path / "job.py"
        path.write_text(JOB.format(action=action, rank=rank, amount=amount, options=options))
        return path

    return write


def test_a_failure_on_one_rank_of_three_is_shown_once_and_ends_all(run_ranks, script):
    began_s = time.monotonic()

    run = run_ranks(3, [script("raise ValueError('no such airport')", rank=1)])

    assert run.returncode == 1
    assert run.stdout.count("Traceback") == 1
    assert run.stdout.count("ValueError: no such airport") == 1
    assert "in of_rank_1" in run.stdout
    assert "on rank 1 of 3" in run.stdout
    assert "RemoteError" not in run.stdout
    assert "/hpcstream/runtime/" not in run.stdout
    assert time.monotonic() - began_s < 30


def test_an_error_of_the_script_itself_is_shown_once(run_ranks, tmp_path):
    path = tmp_path / "job.py"
    path.write_text(
        "import hpcstream as hs\n"
        "rows = hs.Job('typo').generate(lambda start, n: {'time': range(n)}, rows=9)\n"
        "rows.select('tim').collect()\n"
    )

    run = run_ranks(3, [path])

    assert run.returncode == 1
    assert run.stdout.count("did you mean 'time'?") == 1


@pytest.mark.parametrize(
    ("watched_from", "leave", "status", "code"),
    [
        ("the first job", "1", 7, 7),
        ("the first job", "1", 0, 1),
        ("the first job", "02", 0, 1),
        ("the first job", "012", 0, 0),
        ("the import", "1", 0, 1),
    ],
)
def test_ranks_that_leave_the_script_leave_no_other_waiting(
    watched_from, leave, status, code, run_ranks, tmp_path
):
    """Before MPI starts, where launchers let the others wait for one that is gone."""
    lines = (
        "job = hs.Job('waits')",
        "if os.environ.get('OMPI_COMM_WORLD_RANK', os.environ.get('PMI_RANK')) in sys.argv[1]: "
        "sys.exit(int(sys.argv[2]))",
    )
    environ = {}
    if watched_from == "the import":
        lines, environ = lines[::-1], {"HPCSTREAM_EXIT_HOOKS": "1"}
    path = tmp_path / "job.py"
    path.write_text(
        "\n".join(
            (
                "import os, sys",
                "import hpcstream as hs",
                *lines,
                "job.generate(lambda start, n: {'t': range(n)}, rows=9).collect()",
                "job.run()",
            )
        )
    )

    run = run_ranks(3, [path, leave, status], timeout=60, env=environ)

    assert run.returncode == code, run.stdout


@pytest.mark.parametrize("stuck", [0, 2])
def test_a_rank_stuck_in_user_code_is_named_and_the_job_ends(run_ranks, script, stuck):
    path = script("time.sleep(600)", rank=stuck, options="stall_timeout_s=4")

    run = run_ranks(3, [path], timeout=60)

    assert run.returncode != 0
    assert run.stdout.count("nothing has moved for") == 2  # who is missing; then the end
    assert f"rank {stuck} (process" in run.stdout
    assert run.stdout.count("does not answer") == 1
    assert "StallError" in run.stdout


def test_the_live_line_shows_all_ranks_together(run_ranks, script):
    path = script("pass", amount="rows=40_000, rate=10_000")

    run = run_ranks(2, [path], env={"HPCSTREAM_TERMINAL": "120"})

    assert run.returncode == 0, run.stdout
    shown = [part for part in run.stdout.split("\x1b[K") if "rows/s  " in part]
    assert 2 <= len(shown) <= 6
    assert shown[-1].startswith("lost  ")
    assert "watermark 1970-01-01 00:00:" in shown[-1]
    assert "rows in 40,000" in run.stdout


@pytest.mark.parametrize("victim", ["the launcher", "a rank"])
def test_when_the_launcher_or_a_rank_is_killed_no_rank_lives_on(launcher, script, victim):
    path = script("pass", amount="rate=1_000")
    command = mpiexec.command(launcher, 3, [sys.executable, str(path)], slots=0)
    environ = mpiexec.environment(launcher, dict(os.environ))
    process = subprocess.Popen(
        command,
        env=environ,
        stdin=DEVNULL,
        stdout=DEVNULL,
        stderr=DEVNULL,
        preexec_fn=lambda: remove_session(os.getpid(), environ),
    )
    try:
        ranks = wait_for_ranks(process.pid, path, 3)
        time.sleep(1.0)
        os.kill(process.pid if victim == "the launcher" else ranks[1], signal.SIGKILL)
        killed_s = time.monotonic()
        process.wait(3 * LIMIT_S)
        while any(map(lives, ranks)) and time.monotonic() - killed_s < 3 * LIMIT_S:
            time.sleep(0.1)
        assert time.monotonic() - killed_s < LIMIT_S
        assert process.returncode != 0
    finally:
        for pid in [process.pid, *descendants(process.pid)]:
            if lives(pid):
                os.kill(pid, signal.SIGKILL)


def wait_for_ranks(root: int, path: Path, n_ranks: int) -> list[int]:
    """Return the processes that run the script, once each has loaded MPI."""
    until_s = time.monotonic() + 60
    while time.monotonic() < until_s:
        ranks = [pid for pid in descendants(root) if runs(pid, path)]
        if len(ranks) == n_ranks:
            return ranks
        time.sleep(0.1)
    raise AssertionError(f"{n_ranks} ranks did not start")


def runs(pid: int, path: Path) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        maps = Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return False
    return words[:2] == [sys.executable.encode(), str(path).encode()] and "libmpi" in maps


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
