"""The sustained rate: the highest at which lag does not grow, found by paced runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.measure.launch import LaunchConfig, TrialError
from benchmarks.measure.progress import say
from benchmarks.report.results import Record, ResultFile
from benchmarks.suites.latency import paced_trial, run_paced

HEADER = ("workload", "sustained", "not sustained", "lag", "its growth", "p50", "p99")
MOST_GROWTH = 0.02
"""Seconds of lag in a second: whoever keeps up with less than 98 % of the rows falls behind."""

STEP = 1.1
"""The search ends when the rate that is not sustained is at most so many times the other."""

FIRST_RATE = 1_000_000
_LEAST_RATE = 1_000
_TRIES = 2  # a rate is given up when it was not sustained so many times

DEFINITION = (
    f"The sustained rate is the highest offered one, within a factor of {STEP:g}, at which lag "
    "does not grow. Lag is how long the next row has been due when it is read, the greatest in "
    "each tenth of a second; it grows if the median of the last third of a run exceeds that of "
    f"the first by more than {1e3 * MOST_GROWTH:g} ms for each second between. A rate is given up "
    f"after {_TRIES} such runs. Every row must be counted, and none be late."
)


def search(keeps_up: Callable[[int], bool], first: int = FIRST_RATE) -> tuple[int, int]:
    """Return the highest rate that is kept up with, and the least that is not.

    Rates are doubled (or halved) from ``first`` until one of each kind is known, then the
    space between is halved. The first is 0 if none is kept up with.
    """
    low = high = 0
    rate = first
    while not (low and high):
        if keeps_up(rate):
            low, rate = rate, 2 * rate
        else:
            high, rate = rate, rate // 2
        if rate < _LEAST_RATE:
            return 0, high
    while high > low * STEP:
        rate = int((low * high) ** 0.5)
        low, high = (rate, high) if keeps_up(rate) else (low, rate)
    return low, high


def measure_sustained(
    workloads: Sequence[str],
    ranks: int,
    config: LaunchConfig,
    results: ResultFile,
    *,
    seconds: float,
    linger_s: float,
) -> list[str]:
    """Search the sustained rate of each paced workload, add records, return what went wrong."""
    faults = []
    for workload in workloads:

        def keeps_up(rate: int, workload: str = workload) -> bool:
            trial = paced_trial(workload, rate, ranks, seconds, linger_s)
            for _ in range(_TRIES):
                record = run_paced(trial, config)
                held = is_sustained(record)
                results.add({**record, "kind": "offered", "sustained": held})
                say(
                    f"  {workload} at {rate:,} rows/s: lag grows by "
                    f"{1e3 * record['lag_growth']:+.1f} ms/s{'' if held else ', falls behind'}"
                )
                if held:
                    return True
            return False

        try:
            search(keeps_up)
        except TrialError as error:
            faults.append(f"sustained rate of {workload}: {error}")
    return faults


def is_sustained(record: Record) -> bool:
    """Return whether a paced run kept up with its rows."""
    return bool(record["lag_growth"] <= MOST_GROWTH and record["late_rows"] == 0)


def outcome(runs: Sequence[Record]) -> tuple[int, int]:
    """Return the highest rate that was sustained in a search, and the least that was not."""
    held = {run["rate"] for run in runs if run["sustained"]}
    given_up = {run["rate"] for run in runs} - held
    return max(held, default=0), min(given_up, default=0)


def searches(records: Sequence[Record]) -> dict[tuple[str, int], list[Record]]:
    """Return the runs of each search, by workload and ranks."""
    groups: dict[tuple[str, int], list[Record]] = {}
    for record in records:
        if record["kind"] == "offered":
            groups.setdefault((record["workload"], record["ranks"]), []).append(record)
    return groups


def sustained_rows(records: Sequence[Record]) -> list[tuple[str, ...]]:
    """Return the cells of each search, below `HEADER`."""
    return [_row(*key, runs) for key, runs in searches(records).items()]


def _row(workload: str, ranks: int, runs: Sequence[Record]) -> tuple[str, ...]:
    held, given_up = outcome(runs)
    best = [run for run in runs if run["rate"] == held and run["sustained"]]
    cells = ("-",) * 4
    if best:
        run = best[-1]
        growth = f"{1e3 * run['lag_growth']:+.1f} ms/s"
        cells = (f"{1e3 * run['lag_s']:.2f} ms", growth, *(f"{run[n]:.2f} ms" for n in _SHOWN))
    rates = (f"{rate:,} rows/s" if rate else "-" for rate in (held, given_up))
    return (f"{workload}, {ranks} ranks", *rates, *cells)


_SHOWN = ("p50_ms", "p99_ms")
