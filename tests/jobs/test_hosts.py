"""Three hosts, joined by a network that can be cut; see `hosts`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpcstream.process.launcher_facts import MPICH, OPEN_MPI

sys.path.insert(0, str(Path(__file__).parent))

from hosts import NAMES, Hosts, can_be_made

pytestmark = pytest.mark.skipif(not can_be_made(), reason="needs root, namespaces and iproute2")

JOB = """
import os, sys, time
import pyarrow as pa
import hpcstream as hs

def slow(batch):
    time.sleep(0.01)
    return batch

schema = pa.schema([("t", pa.int64())])
job = hs.Job("far")
batches = (pa.record_batch({"t": list(range(100))}) for _ in range(int(sys.argv[1])))
rows = job.from_batches(batches, schema=schema).map_batches(slow, schema=schema)
rows.rebalance().map_batches(slow, schema=schema).rebalance().collect()
result = job.run(batch_rows=100, show=False, stop_grace_s=4, checkpoint_interval="300ms")
print("rank", result.rank, os.uname().nodename, os.environ["HPCSTREAM_CHECKPOINT_DIR"], flush=True)
"""


@pytest.fixture
def hosts(tmp_path):
    with Hosts(tmp_path) as made:
        yield made


@pytest.fixture
def run(hosts, launcher, tmp_path):
    """Start a job of one rank a host by ``hpcstream run`` on the first; ended with the test."""
    started = []
    script, machines = tmp_path / "far_job.py", tmp_path / "machines"
    script.write_text(JOB)
    if launcher.mpi not in (OPEN_MPI, MPICH):
        pytest.skip("a launcher whose options are not known")
    is_open = launcher.mpi == OPEN_MPI
    form = "{} slots=1\n" if is_open else "{}:1\n"
    machines.write_text("".join(map(form.format, NAMES)))
    options = (
        f"--hostfile {machines} --prtemca plm_ssh_agent {hosts.agent} --bind-to none"
        if is_open
        else f"-f {machines} -launcher ssh -launcher-exec {hosts.agent}"
    )

    def start(n_batches, *arguments):
        command = [sys.executable, "-m", "hpcstream", "run", "-n", "3"]
        command += ["--checkpoint-dir", tmp_path / "run", *arguments]
        command += ["--launcher", f"{launcher.path} {options}", script, n_batches]
        log = tmp_path / "log"  # a pipe would stay open as long as a lost host's processes live
        with log.open("w") as said:
            job = subprocess.Popen(hosts.on("hosta", *command), stdout=said, stderr=said)
        started.append(job)
        return job

    yield start
    for job in started:
        job.kill()
        job.wait()


def until(is_so, seconds=60.0):
    give_up = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < give_up
        time.sleep(0.1)


def test_ranks_of_all_hosts_know_what_the_command_line_says(run, tmp_path):
    job = run(20)
    job.wait(timeout=100)
    said = (tmp_path / "log").read_text(errors="replace")

    assert job.returncode == 0, said
    lines = sorted(line for line in said.splitlines() if line.startswith("rank"))
    assert [line.split()[:3] for line in lines] == [
        ["rank", str(rank), name] for rank, name in enumerate(NAMES)
    ]
    assert all(line.endswith(str(tmp_path / "run")) for line in lines)


def test_one_signal_ends_a_job_whose_link_is_cut(run, hosts, tmp_path):
    job = run(100_000)
    until(lambda: list((tmp_path / "run").glob("*/manifest.json")))
    hosts.cut("hostc")
    time.sleep(0.5)
    os.kill(first_child(job.pid) or job.pid, signal.SIGTERM)
    job.wait(timeout=100)
    said = (tmp_path / "log").read_text(errors="replace")

    assert job.returncode == 75, said
    assert "asked to stop, the ranks gave no answer for 7 s" in said
    assert not hosts.runs("hosta", "far_job.py")
    assert not hosts.runs("hostb", "far_job.py")


def test_a_cut_link_ends_a_job_on_every_host_by_itself(run, hosts, tmp_path):
    job = run(100_000, "--lost-host", "13")
    until(lambda: list((tmp_path / "run").glob("*/manifest.json")))
    hosts.cut("hostc")
    job.wait(timeout=100)
    said = (tmp_path / "log").read_text(errors="replace")

    assert job.returncode not in (0, 75), said
    assert "does not answer" in said
    assert "no rank of hostc answers" in said
    until(lambda: not any(hosts.runs(name, "far_job.py") for name in NAMES))


def first_child(pid):
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else None
