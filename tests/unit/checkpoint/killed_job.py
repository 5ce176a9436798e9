"""A job on two simulated ranks that kills its process while a file is on its way to the disk.

    python killed_job.py FOLDER

It leaves in FOLDER whole checkpoints that refer to files of earlier ones, one that was
begun, a file in the scratch directory, the lock, and a request for a savepoint.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import hpcstream as hs
from hpcstream import col
from hpcstream.checkpoint.storage import staging
from hpcstream.runtime import control
from hpcstream.testing import ManualClock, Ranks, start_ranks

sys.path.insert(0, str(Path(__file__).parent))
from restart import OPTIONS, generated

KILL_AT = 16
"""Copies from the scratch directory: the eighth checkpoint of two ranks."""


def slices(folder: Path) -> hs.Job:
    """Slices that many windows need, and that no row comes to any more."""
    job = hs.Job("slices")
    windows = generated(job, 3000).key_by("key").window(hs.sliding("2s", "50ms"))
    windows.agg(rows=hs.count(), total=col("x").sum()).write_parquet(folder / "out")
    return job


def start(folder: Path, n_ranks: int, **more) -> Ranks:
    """Start the job, or go on with it."""
    options = {"checkpoint_dir": str(folder / "run"), "scratch_dir": str(folder / "scratch")}
    clock = ManualClock(turn_s=0.01)
    return start_ranks(
        n_ranks,
        lambda: slices(folder),
        clock=clock,
        **options,
        **OPTIONS | {"batch_rows": 40} | more,
    )


def main(folder: Path) -> None:
    """Run until the process kills itself."""
    copied = []

    def copy_or_die(source: str, path: str) -> None:
        copied.append(path)
        if len(copied) == KILL_AT:
            os.kill(os.getpid(), signal.SIGKILL)
        copy(source, path)

    copy, staging._copy = staging._copy, copy_or_die
    control.MOST_ROUNDS = 4
    with start(folder, 2, restore_from=None) as ranks:
        ranks.until(lambda: len(copied) == KILL_AT - 1)
        (folder / "run" / "savepoint-request.json").write_text(json.dumps({"stop": False}))
        ranks.finish()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
