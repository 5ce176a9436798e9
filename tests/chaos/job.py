"""The job that is killed: two windows and an exchange between them, at a pace that can be hit."""

from __future__ import annotations

import os
import sys
import time

import hpcstream as hs
from hpcstream import col

N_ROWS = 240_000


def rows(start, n):
    numbers = range(start, start + n)
    return {
        "t": list(numbers),
        "key": [f"key-{i * 7919 % 211}" for i in numbers],
        "n": [i * 13 % 1009 for i in numbers],
        "x": [(i * 31 % 101) / 7 for i in numbers],
    }


def paced(batch):
    time.sleep(float(os.environ.get("CHAOS_JOB_PACE_S", "0.01")))
    return batch


def build(out):
    job = hs.Job("chaos")
    stream = job.generate(rows, rows=N_ROWS, splits=9, event_time="t", event_time_unit="ms")
    sums = (
        stream.map_batches(paced)
        .filter(col("n") > 20)
        .key_by("key")
        .window(hs.sliding("4s", "1s"))
        .agg(rows=hs.count(), total=col("x").sum(), whole=col("n").sum(), worst=col("n").max())
    )
    daily = sums.key_by("whole").window(hs.tumbling("10s"))
    daily.agg(windows=hs.count(), total=col("total").sum()).write_parquet(out)
    return job


if __name__ == "__main__":
    build(sys.argv[1]).run(
        checkpoint_dir=sys.argv[2] if len(sys.argv) > 2 else None,
        checkpoint_interval="50ms",
        batch_rows=1000,
        show=False,
    )
