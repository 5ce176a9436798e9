"""Whether memory stays flat: `tumbling` on two ranks over many times the file."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure.launch import LaunchConfig, TrialError, run_trial
from benchmarks.measure.progress import say
from benchmarks.measure.trial import Trial
from benchmarks.report.results import ResultFile
from benchmarks.suites.core_suite import record_of
from benchmarks.suites.reference import Reference
from benchmarks.workloads.datasets import build, count_rows
from benchmarks.workloads.workload import WORKLOADS

RANKS = 2


def measure_endurance(
    long_rows: int, file_rows: int | None, config: LaunchConfig, results: ResultFile, data: Path
) -> list[str]:
    """Run about ``long_rows`` rows once, add a record, and return what went wrong."""
    workload = WORKLOADS["tumbling"]
    path = build(workload.with_rows(file_rows) if file_rows else workload, data)
    rows = count_rows(path)
    passes = max(1, round(long_rows / rows))
    trial = Trial("tumbling", "hpcstream", str(path), rows, passes=passes, ranks=RANKS)
    try:
        report = run_trial(trial, config)
    except TrialError as error:
        return [f"memory over {long_rows:,} rows: {error}"]
    report["fault"] = Reference().fault(trial, report)
    series = report["memory"]
    growth = growth_of(series, report["seconds"])
    record = {**record_of(trial, 0, report), "kind": "endurance", "growth": growth}
    results.add(record | {"series": series[:: max(1, len(series) // 500)]})
    say(f"  {passes * rows:,} rows: memory grew by {growth:+.1%} from the first to the last third")
    return [f"memory over {long_rows:,} rows: {report['fault']}"] if report["fault"] else []


def growth_of(series: Sequence[tuple[float, int]], seconds: float) -> float:
    """Return by how much the last third of the timed part has more memory than the first.

    The timed part are the last ``seconds`` of the series; medians are compared.
    """
    begin = series[-1][0] - seconds if series else 0.0
    timed = [size for at, size in series if at >= begin]
    third = len(timed) // 3
    if third < 1:
        return 0.0
    return statistics.median(timed[-third:]) / statistics.median(timed[:third]) - 1.0
