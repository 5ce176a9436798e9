"""`job.run()` where people try things: a shell, a notebook, again and again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]

JOB = """\
import pyarrow as pa
import hpcstream as hs
rows = pa.table({"t": [0, 1, 12], "k": ["a", "b", "a"]})
job = hs.Job("cell")
stream = job.from_batches(rows, event_time="t", event_time_unit="s")
counts = stream.key_by("k").window(hs.tumbling("10s")).agg(n=hs.count()).collect()
result = job.run()
print("rows", counts.table.num_rows, result.rows_in)
again = job.run(show=False)
print("again", counts.table.num_rows, again.rows_in)
"""


def environ():
    return os.environ | {"PYTHONPATH": str(PROJECT)}


def test_a_job_runs_twice_in_a_python_shell():
    shell = subprocess.run(
        [sys.executable, "-i", "-q"],
        input=JOB,
        env=environ(),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )

    assert "rows 3 3" in shell.stdout
    assert "again 3 3" in shell.stdout
    assert "Traceback" not in shell.stderr


def test_a_job_runs_inside_an_event_loop_as_a_notebook_has_one(tmp_path):
    cell = tmp_path / "cell.py"
    cell.write_text("import asyncio\nasync def cell():\n" + indented(JOB) + "asyncio.run(cell())\n")

    run = subprocess.run(
        [sys.executable, str(cell)],
        env=environ(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == ["rows 3 3", "again 3 3"]


def test_a_job_runs_in_a_notebook(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(JOB)])

    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()

    texts = [out["text"] for out in notebook.cells[0].outputs if out.get("name") == "stdout"]
    assert "rows 3 3" in "".join(texts)


def indented(text):
    return "".join(f"    {line}\n" for line in text.splitlines())
