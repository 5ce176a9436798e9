"""Runs one trial in a process of its own, or on the ranks of one job; prints one JSON line.

Started by `benchmarks.measure.launch`, never by hand::

    python -m benchmarks.measure.trial_process '<a trial as JSON>' <monotonic time of the start>
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.measure.trial import Trial

MARK = "BENCHMARK "
"""Begins the line that holds the result."""


def main() -> None:
    """Run the trial named in the arguments."""
    entered = time.monotonic()
    trial = Trial.from_json(sys.argv[1])
    report = measure(trial)
    report["startup_s"] = entered - float(sys.argv[2])
    if report.pop("rank") == 0:
        print(MARK + json.dumps(report), flush=True)


def measure(trial: Trial) -> dict[str, Any]:
    """Return what the trial took: the first pass and the timed part apart."""
    os.environ["POLARS_MAX_THREADS"] = str(trial.threads)
    begin = time.perf_counter()
    from benchmarks.systems import make

    system = make(trial)
    ready = time.perf_counter()
    system.run(
        1
    )  # compiles kernels, or loads them from their cache, and reads the file into memory
    first = time.perf_counter() - ready
    warm_s, once = system.run(1)
    seconds, answer = system.run(trial.passes)
    rows = trial.rows * trial.passes
    details = system.details() if hasattr(system, "details") else {}
    return {
        "rank": _rank(),
        "engine": _engine(),
        "import_s": ready - begin,
        "compile_s": max(0.0, first - warm_s),
        "seconds": seconds,
        "rows": rows,
        "rows_per_second": rows / seconds,
        "once": once.to_json(),
        "answer": answer.to_json(),
        **details,
    }


def _engine() -> str:
    """Return the folder from which hpcstream was imported."""
    found = sys.modules.get("hpcstream")
    file = None if found is None else found.__file__
    return "" if file is None else str(Path(file).parents[1])


def _rank() -> int:
    """Return this process's rank without starting MPI where there is none."""
    mpi = sys.modules.get("mpi4py.MPI")
    return 0 if mpi is None else int(mpi.COMM_WORLD.Get_rank())


if __name__ == "__main__":
    main()
