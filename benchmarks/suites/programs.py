"""The suites of a run beside the core workloads: their own commands, into one file of records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure.launch import LaunchConfig, TrialError, run_command
from benchmarks.measure.progress import say
from benchmarks.micro import command as micro
from benchmarks.report.results import ResultFile
from benchmarks.suites.core_suite import Plan

SUITES = ("core", "nexmark", "shufflebench", "sprobench", "micro")
TIMEOUT_S = 4 * 3600.0

_EVENTS = {
    "nexmark": ("--events", 1_000_000, 10_000_000),
    "shufflebench": ("--records", 300_000, 2_000_000),
    "sprobench": ("--records", 500_000, 5_000_000),
}
"""The option that says how many events, and their number in a quick run and otherwise."""


def measure_suites(
    chosen: Sequence[str], plan: Plan, config: LaunchConfig, results: ResultFile, *, quick: bool
) -> list[str]:
    """Run suites on each number of ranks, add their records, and return what went wrong."""
    faults = []
    for suite in chosen:
        if suite in _EVENTS:
            faults += _measure_queries(suite, plan, config, results, quick=quick)
        elif suite == "micro":
            faults += _measure_parts(plan, config, results, quick=quick)
    return faults


def _measure_queries(
    suite: str, plan: Plan, config: LaunchConfig, results: ResultFile, *, quick: bool
) -> list[str]:
    option, few, many = _EVENTS[suite]
    events = plan.rows or (few if quick else many)
    path = Path(results.path).resolve()
    given = [option, str(events), "--repeats", str(plan.repeats)]
    given += ["--json", str(path), "--out", str(path.parent / suite)]
    faults = []
    for ranks in plan.ranks:
        say(f"\n{suite} on {ranks} rank{'s' if ranks > 1 else ''}: {events:,} events")
        try:
            status = run_command(
                f"benchmarks.{suite}", [*given, "--ranks", str(ranks)], ranks, config, TIMEOUT_S
            )
        except TrialError as error:
            faults.append(f"{suite} on {ranks} ranks: {error}")
            continue
        if status:
            faults.append(f"{suite} on {ranks} ranks ended with {status}; see what it printed")
    return faults


def _measure_parts(
    plan: Plan, config: LaunchConfig, results: ResultFile, *, quick: bool
) -> list[str]:
    say("\nmicro: kernels and exchange beside what the machine can do")
    several = [ranks for ranks in plan.ranks if ranks > 1]  # one rank has no exchange
    rows = micro.QUICK_ROWS if quick else micro.ROWS
    budget_s = micro.QUICK_BUDGET_S if quick else micro.BUDGET_S
    try:
        micro.measure(results, config, several, rows, budget_s=budget_s, repeats=plan.repeats)
    except TrialError as error:
        return [f"micro: {error}"]
    return []
