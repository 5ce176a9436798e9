"""The command line of the benchmarks."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from benchmarks.measure.launch import LaunchConfig
from benchmarks.measure.machine import describe_machine
from benchmarks.measure.progress import say
from benchmarks.options import fill_in, parser
from benchmarks.report.markdown import write_report
from benchmarks.report.results import ResultFile, read_results, summarize
from benchmarks.report.tables import HEADER, as_text, workload_rows
from benchmarks.slurm import write_scripts
from benchmarks.suites.core_suite import VARIANTS, CoreSuite, Plan
from benchmarks.suites.endurance import measure_endurance
from benchmarks.suites.latency import measure_latency
from benchmarks.suites.programs import measure_suites
from benchmarks.suites.sustained import measure_sustained


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks and return the exit status: 1 if an answer was wrong."""
    options = parser(_run, _report, __doc__).parse_args(arguments)
    status: int = options.answer(options)
    return status


def _run(options: argparse.Namespace) -> int:
    fill_in(options)
    if options.slurm:
        return _write_slurm(options)
    config = _config(options)
    results = ResultFile(options.out / f"{options.name}.jsonl")
    results.add(describe_machine(config))
    faults = _measure_core(options, config, results) if "core" in options.suites else []
    faults += measure_suites(options.suites, _plan(options), config, results, quick=options.quick)
    print_tables(results)
    print(f"\nreport: {write_report([results.path], options.out / options.name)}", flush=True)
    for fault in faults:
        say(f"FAILED {fault}")
    return 1 if faults else 0


def _measure_core(
    options: argparse.Namespace, config: LaunchConfig, results: ResultFile
) -> list[str]:
    data = options.data or options.out / "data"
    core = CoreSuite(_plan(options), config, results, data)
    core.run()
    faults = core.faults
    if options.latency_seconds > 0:
        faults += _measure_paced(options, config, results)
    if options.long_rows > 0:
        say(f"\nmemory: {options.long_rows:,} rows of tumbling")
        faults += measure_endurance(options.long_rows, options.rows, config, results, data)
    return faults


def _plan(options: argparse.Namespace) -> Plan:
    return Plan(
        options.workloads,
        options.ranks,
        options.peers,
        VARIANTS if options.variants else (),
        repeats=options.repeats,
        seconds=options.seconds,
        rows=options.rows,
        passes=options.passes,
        weak=options.weak,
    )


def _measure_paced(
    options: argparse.Namespace, config: LaunchConfig, results: ResultFile
) -> list[str]:
    say("\nlatency: rows on a schedule")
    ranks, seconds, linger_s = options.latency_ranks, options.latency_seconds, options.linger_s
    faults = measure_latency(
        options.paced,
        options.rates,
        ranks,
        config,
        results,
        seconds=seconds,
        repeats=options.repeats,
        linger_s=linger_s,
    )
    if options.sustained:
        say("\nsustained rate: the highest without growing lag")
        faults += measure_sustained(
            options.paced, ranks, config, results, seconds=seconds, linger_s=linger_s
        )
    return faults


def _write_slurm(options: argparse.Namespace) -> int:
    if options.weak and options.passes is None:
        say("--weak --slurm: give --passes, the replays of the file a rank; each job is on its own")
        return 2
    folder, ranks = options.out, options.ranks
    paths = write_scripts(folder, ranks, options.launcher, _for_script(options), time=options.slurm)
    for path in paths:
        print(f"sbatch {path}")
    print(f"then: python -m benchmarks report {folder}/*.jsonl --out {folder}/report")
    return 0


def _for_script(options: argparse.Namespace) -> list[str]:
    """Return the options that each job script passes on, beside its ranks."""
    given = ["--suites", *options.suites, "--workloads", *options.workloads]
    for name in ("repeats", "seconds", "latency_seconds", "linger_s", "rows", "passes", "data"):
        value = getattr(options, name)
        if value is not None:
            given += [f"--{name.replace('_', '-')}", str(value)]
    given += ["--rates", *map(str, options.rates), "--paced", *options.paced]
    given += [] if options.sustained else ["--no-sustained"]
    return given + [f"--{name}" for name in ("quick", "weak") if getattr(options, name)]


def _report(options: argparse.Namespace) -> int:
    print(f"report: {write_report(options.files, options.out)}")
    return 0


def print_tables(results: ResultFile) -> None:
    """Print one table for each workload."""
    summaries = summarize(read_results([results.path]))
    for workload in dict.fromkeys(s.workload for s in summaries):
        mine = [s for s in summaries if s.workload == workload]
        print(f"\n{workload}, median of {len(mine[0].values)}")
        print(as_text(HEADER, workload_rows(mine)))
    print(f"\nrecords: {results.path}", flush=True)


def _config(options: argparse.Namespace) -> LaunchConfig:
    allowed = sorted(os.sched_getaffinity(0))
    return LaunchConfig(options.launcher, tuple(allowed[: options.cores]))
