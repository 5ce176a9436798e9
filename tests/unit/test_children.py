"""Processes that a function of a job forks: they can be ended, and end nothing themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from hpcstream.process.stop_signals import SignalledStop

JOB = """
import os, sys, time
import pyarrow as pa
import hpcstream as hs

def fork(batch):
    if batch.num_rows == 0:
        return batch
    child = os.fork()
    if child == 0:
        {child}
        return batch
    _, status = os.waitpid(child, 0)
    print("child", os.waitstatus_to_exitcode(status), flush=True)
    return batch

job = hs.Job("forks")
table = pa.table({{"x": list(range(8))}})
rows = job.from_batches(table.to_batches(max_chunksize=4))
rows = rows.map_batches(fork, schema=table.schema)
rows = rows.flat_map(lambda row: row)
rows.write_csv(sys.argv[1])
kept = rows.collect()
job.run(show=False, batch_rows=4)
print("rows", kept.table.num_rows)
"""

CHILDREN = {
    "returns": ("pass", 1),
    "exits": ("sys.exit(7)", 7),
    "exits with success": ("sys.exit()", 0),
    "raises SystemExit": ("raise SystemExit(5)", 5),
    "raises": ("raise ValueError('in the child')", 1),
    "is interrupted": ("raise KeyboardInterrupt", 1),
    "runs a job": (
        "own = hs.Job('own'); kept = own.from_batches(batch).collect(); own.run(show=False); "
        "os._exit(kept.table.num_rows)",
        4,
    ),
}


@pytest.mark.parametrize(("child", "status"), CHILDREN.values(), ids=CHILDREN)
def test_a_forked_child_ends_by_itself_and_the_job_goes_on(child, status, tmp_path):
    script = tmp_path / "job.py"
    script.write_text(JOB.format(child=child))

    run = subprocess.run(
        [sys.executable, script, tmp_path / "out"], capture_output=True, text=True, timeout=100
    )

    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == [f"child {status}"] * 2 + ["rows 8"], run.stderr
    written = [path.read_text() for path in (tmp_path / "out").glob("part-*")]
    assert "".join(written).count("\n") == 8 + len(written), "each row once, and a header"
    assert ("returned into the job" in run.stderr) is (child == "pass")


def test_a_flat_map_that_forks_for_each_row_does_not_multiply(tmp_path):
    text = JOB.replace("lambda row: row", "lambda row: (os.fork() or None) and row")
    script = tmp_path / "job.py"
    script.write_text(text.format(child="os._exit(0)"))

    run = subprocess.run(
        [sys.executable, script, tmp_path / "out"], capture_output=True, text=True, timeout=100
    )

    assert run.stdout.splitlines()[-1] == "rows 8", run.stderr
    assert run.stderr.count("returned into the job") == 8


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_children_are_ended_by_the_signals_that_a_job_takes_for_a_request(number):
    with SignalledStop(has_checkpoints=True, environ={}) as stop:
        for _ in range(200):  # the moment after the fork is the dangerous one
            child = os.fork()
            if child == 0:
                signal.pause()
                os._exit(0)
            os.kill(child, number)
            assert os.waitpid(child, 0)[1] == number
        assert stop.status == 0
        os.kill(os.getpid(), number)
        assert stop.status == 75


def test_a_childs_handlers_are_those_from_before_the_run():
    before = signal.signal(signal.SIGTERM, lambda *_: os._exit(3))
    try:
        with SignalledStop(has_checkpoints=True, environ={}):
            child = os.fork()
            if child == 0:
                os.kill(os.getpid(), signal.SIGTERM)
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    finally:
        signal.signal(signal.SIGTERM, before)
