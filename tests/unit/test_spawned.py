"""Processes that functions of a job spawn, and scripts without a guard for them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
SCRIPT = """
import multiprocessing
import pyarrow as pa
import hpcstream as hs

def double(x):
    return 2 * x

def doubled(batch):
    if not batch.num_rows:
        return batch
    with multiprocessing.get_context("{method}").Pool(1) as pool:
        return pa.record_batch({{"x": pool.map(double, batch["x"].to_pylist())}})

SCHEMA = pa.schema([("x", pa.int64())])
job = hs.Job("pool")
rows = job.from_batches(pa.table({{"x": [1, 2]}})).map_batches(doubled, schema=SCHEMA)
{guard}
"""


def run(tmp_path, text):
    (tmp_path / "script.py").write_text(text)
    return subprocess.run(
        [sys.executable, "script.py"],
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_script_without_a_guard_is_ended_and_told_why(tmp_path, method):
    done = run(tmp_path, SCRIPT.format(method=method, guard="rows.print(); job.run()"))

    assert done.returncode not in (0, None)
    assert "imported the script and reached job.run()" in done.stderr
    assert "write `if __name__ == '__main__':` above job.run()" in done.stderr


def test_a_script_with_a_guard_may_spawn(tmp_path):
    guard = "if __name__ == '__main__':\n    rows.print()\n    job.run(show=False)"
    done = run(tmp_path, SCRIPT.format(method="spawn", guard=guard))

    assert (done.returncode, done.stderr) == (0, "")
    assert "4" in done.stdout


def test_a_process_that_no_job_has_started_is_told_by_an_error(tmp_path):
    text = """
import multiprocessing
import pyarrow as pa
import hpcstream as hs

job = hs.Job("again")
job.from_batches(pa.table({"x": [1]})).collect()
job.run(show=False)
if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=print)
    process.start()
    process.join()
    print("status", process.exitcode)
"""
    done = run(tmp_path, text)

    assert done.stdout == "status 1\n"
    assert "PlanError: a process started by multiprocessing" in done.stderr
