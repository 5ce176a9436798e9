"""Latency over load: `benchmarks.measure.paced` at several rates, percentiles of each."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.measure.launch import LaunchConfig, TrialError, run_module
from benchmarks.measure.progress import say
from benchmarks.measure.trial import Trial
from benchmarks.report.results import Record, ResultFile

LINGER_S = 0.0002
HEADER = ("load", "p50", "p99", "p99.9", "max", "results", "rounds/s", "late rows")


def measure_latency(
    workloads: Sequence[str],
    rates: Sequence[int],
    ranks: int,
    config: LaunchConfig,
    results: ResultFile,
    *,
    seconds: float,
    repeats: int,
    linger_s: float = LINGER_S,
) -> list[str]:
    """Run each workload at each rate ``repeats`` times, add records, return what went wrong."""
    faults = []
    for repetition in range(repeats):
        for workload in workloads:
            for rate in rates:
                trial = paced_trial(workload, rate, ranks, seconds, linger_s)
                try:
                    record = {**run_paced(trial, config), "repetition": repetition}
                except TrialError as error:
                    faults.append(f"{workload} at {rate:,} rows/s: {error}")
                    continue
                results.add({**record, "kind": "latency"})
                say("  " + "  ".join(latency_row(record)))
    return faults


def paced_trial(workload: str, rate: int, ranks: int, seconds: float, linger_s: float) -> Trial:
    """Return a trial of ``seconds`` at a rate."""
    options = {"rate": rate, "linger_s": linger_s}
    return Trial(workload, "hpcstream", "", int(rate * seconds), ranks=ranks, options=options)


def run_paced(trial: Trial, config: LaunchConfig) -> Record:
    """Return what a paced run reports.

    Raises
    ------
    TrialError
        It failed, or not every row was counted.
    """
    report, _ = run_module(
        "benchmarks.measure.paced", [trial.to_json()], trial, config, sample_every_s=60.0
    )
    if report["counted"] != report["to_count"]:
        raise TrialError(f"{report['counted']} rows were counted instead of {report['to_count']}")
    return {"ranks": trial.ranks, "linger_s": trial.options["linger_s"], **report}


def latency_row(record: Record) -> tuple[str, ...]:
    """Return the cells of one run, below `HEADER`."""
    percentiles = [f"{record[name]:.2f} ms" for name in ("p50_ms", "p99_ms", "p99.9_ms", "p100_ms")]
    rounds = record["rounds"] / record["seconds"]
    name = record.get("workload", "latency")
    load = f"{name}, {record['rate']:,} rows/s, {record['ranks']} ranks"
    results = f"{record['results']:,}"
    return (load, *percentiles, results, f"{rounds:.0f}", str(record["late_rows"]))
