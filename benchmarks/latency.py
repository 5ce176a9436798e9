"""Latency over load: `benchmarks.paced` at several rates, percentiles of each."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.campaign import say
from benchmarks.launch import Place, TrialError, run_module
from benchmarks.results import ResultFile
from benchmarks.tables import as_text
from benchmarks.trial import Trial

LINGER_S = 0.0002
HEADER = ("load", "p50", "p99", "p99.9", "max", "rounds/s", "late rows")


def measure_latency(
    rates: Sequence[int],
    ranks: int,
    place: Place,
    results: ResultFile,
    *,
    seconds: float,
    repeats: int,
    linger_s: float = LINGER_S,
) -> list[str]:
    """Run each rate ``repeats`` times, add a record for each, and return what went wrong."""
    faults = []
    for repetition in range(repeats):
        for rate in rates:
            rows = int(rate * seconds)
            options = {"rate": rate, "linger_s": linger_s}
            trial = Trial("latency", "hpcstream", "", rows, ranks=ranks, options=options)
            try:
                report, _ = run_module("benchmarks.paced", [trial.to_json()], trial, place)
            except TrialError as error:
                faults.append(f"latency at {rate} rows/s: {error}")
                continue
            if report["counted"] != rows:
                faults.append(f"latency at {rate} rows/s: {report['counted']} of {rows} rows came")
            record = {"kind": "latency", "ranks": ranks, "linger_s": linger_s, **report}
            results.add({**record, "repetition": repetition})
            say("  " + "  ".join(latency_row(record)))
    return faults


def latency_row(record: dict) -> tuple[str, ...]:
    """Return the cells of one run, below `HEADER`."""
    percentiles = [f"{record[name]:.2f} ms" for name in ("p50_ms", "p99_ms", "p99.9_ms", "p100_ms")]
    rounds = record["rounds"] / record["seconds"]
    load = f"{record['rate']:,} rows/s, {record['ranks']} ranks"
    return (load, *percentiles, f"{rounds:.0f}", str(record["late_rows"]))


def latency_table(records: Sequence[dict]) -> str:
    """Return the table of all runs as text."""
    return as_text(HEADER, [latency_row(record) for record in records])
