"""A job whose checkpoints meet a disk that fails: ``failing_disk.py HOW OUT RUN [NAME=VALUE]``."""

from __future__ import annotations

import resource
import shutil
import sys
import time

import hpcstream as hs
from hpcstream import col, kernels

N_ROWS = 60_000
LIMIT = 300_000


def rows(start, n):
    numbers = range(start, start + n)
    return {"t": list(numbers), "key": [i % 20_000 for i in numbers], "x": [i % 7 for i in numbers]}


def main(how, out, run, *options):
    def fail_once(batch):
        time.sleep(0.03)
        if batch.num_rows and batch["t"][0].as_py() == 30_000:
            if how == "gone":
                shutil.rmtree(run)
            if how == "full":  # what a file may grow to, from now on
                resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, resource.RLIM_INFINITY))
        return batch

    kernels.warm_up()
    job = hs.Job("disk")
    stream = job.generate(rows, rows=N_ROWS, splits=1, event_time="t", event_time_unit="ms")
    windows = stream.map_batches(fail_once).key_by("key").window(hs.tumbling("1h"))
    windows.agg(total=col("x").sum()).write_parquet(out)
    more = dict(option.split("=") for option in options)
    job.run(checkpoint_dir=run, checkpoint_interval="100ms", batch_rows=1000, show=False, **more)


if __name__ == "__main__":
    main(*sys.argv[1:])
