"""A user's function that fails on one rank, as `hpcstream run` shows it."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

LIMIT_S = 5
PROJECT = Path(__file__).parents[2]

JOB = """
import os, time
import pyarrow as pa
import hpcstream as hs
from hpcstream import col

def to_kilometres(batch):
    rank = int(os.environ.get("OMPI_COMM_WORLD_RANK", os.environ.get("PMI_RANK", "0")))
    if rank == 1 and batch.num_rows and batch["n"][0].as_py() > 2_000_000:
        raise KeyError(f"miles, at {time.time()}")
    return batch

job = hs.Job("failing")
rows = job.generate(
    lambda start, n: {"n": range(start, start + n)},
    rows=200_000_000, event_time="n", event_time_unit="ms",
)
mapped = rows.map_batches(to_kilometres).with_columns(key=col("n") % 100)
mapped.key_by("key").window(hs.tumbling("10s")).agg(rows=hs.count()).write_parquet("out")

if __name__ == "__main__":
    job.run()
"""


def test_a_failure_on_rank_1_of_3_ends_the_job_everywhere_at_once(tmp_path):
    (tmp_path / "job.py").write_text(JOB)
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "PMI", "PRTE_"))}

    run = subprocess.run(
        [sys.executable, "-m", "hpcstream", "run", "-n", "3", "job.py"],
        cwd=tmp_path,
        env=plain | {"PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
    )

    ended_s = time.time()
    assert run.returncode == 1
    assert run.stdout.count("Traceback") == 1
    (failed_s,) = re.findall(r"KeyError: 'miles, at ([\d.]+)'", run.stdout)
    assert ended_s - float(failed_s) < LIMIT_S
    assert "on rank 1 of 3" in run.stdout
    assert not list(tmp_path.glob("out/*.parquet"))
