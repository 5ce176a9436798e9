"""`hpcstream explain` of scripts without a job, and commands whose output nobody reads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HPCSTREAM = [sys.executable, "-m", "hpcstream"]
PROJECT = Path(__file__).parents[2]
JOB = "import hpcstream as hs, pyarrow as pa\njob = hs.Job('a')\n"
SINK = "job.from_batches(pa.table({'x': [1]})).collect()\n"


@pytest.fixture
def explain(tmp_path):
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "PMI", "PRTE_"))}

    def run(text):
        (tmp_path / "script.py").write_text(text)
        return subprocess.run(
            [*HPCSTREAM, "explain", "script.py"],
            env=plain | {"PYTHONPATH": str(PROJECT)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


@pytest.mark.parametrize(
    "text",
    ["", JOB, JOB + SINK, f"{JOB}{SINK}if __name__ == 'job':\n    job.run()\n"],
    ids=["empty", "no sink", "no run", "not main"],
)
def test_a_script_that_reaches_no_run_has_no_plan(explain, text):
    done = explain(text)

    assert done.returncode == 2
    assert "'script.py' ended without a job.run(): there is no plan" in done.stderr
    assert done.stdout == ""


def test_the_status_of_a_script_that_fails_is_passed_on(explain):
    done = explain(f"{JOB}raise SystemExit(7)\n")

    assert done.returncode == 7
    assert "no plan" not in done.stderr


def test_a_plan_is_printed(explain):
    done = explain(f"{JOB}{SINK}job.run()\n")

    assert done.returncode == 0
    assert "task" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--help"], 0),  # argparse does not mind
        (["run", "--help"], 0),
        (["checkpoints", "ls", "DIR"], 141),
    ],
)
def test_a_command_whose_output_nobody_reads_ends_quietly(arguments, status, tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    code = (
        "import sys; from hpcstream.cli import checkpoints, command; "
        "checkpoints._list = lambda store, number: print('x' * 100_000) or 0; "
        f"sys.exit(command.main({arguments!r}))"
    ).replace("DIR", str(tmp_path))
    with open(writing, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONPATH": str(PROJECT)},
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )

    assert (done.returncode, done.stderr) == (status, "")
