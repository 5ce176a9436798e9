"""The command line of the benchmarks."""

from __future__ import annotations

import argparse
import datetime
import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks.campaign import VARIANTS, Campaign, Plan, say
from benchmarks.endurance import measure_endurance
from benchmarks.latency import LINGER_S, measure_latency
from benchmarks.launch import Place
from benchmarks.machine import describe_machine
from benchmarks.report import write_report
from benchmarks.results import ResultFile, read_results, summarize
from benchmarks.slurm import write_scripts
from benchmarks.systems import SYSTEMS
from benchmarks.tables import HEADER, as_text, workload_rows
from benchmarks.workloads import WORKLOADS

OUT = Path("out/benchmarks")
_PEERS = tuple(name for name in SYSTEMS if name != "hpcstream")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks and return the exit status: 1 if an answer was wrong."""
    options = _parser().parse_args(arguments)
    status: int = options.answer(options)
    return status


def _run(options: argparse.Namespace) -> int:
    if options.quick:
        options.repeats, options.seconds, options.latency_seconds = 3, 1.5, 4.0
    if options.slurm:
        return _write_slurm(options)
    place = _place(options)
    results = ResultFile(options.out / f"{options.name}.jsonl")
    results.add(describe_machine(place))
    data = options.data or options.out / "data"
    campaign = Campaign(_plan(options), place, results, data)
    campaign.run()
    faults = campaign.faults
    if options.latency_seconds > 0:
        faults += _measure_latency(options, place, results)
    if options.long_rows > 0:
        say(f"\nmemory: {options.long_rows:,} rows of tumbling")
        faults += measure_endurance(options.long_rows, options.rows, place, results, data)
    print_tables(results)
    print(f"\nreport: {write_report([results.path], options.out / options.name)}", flush=True)
    for fault in faults:
        say(f"FAILED {fault}")
    return 1 if faults else 0


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


def _measure_latency(options: argparse.Namespace, place: Place, results: ResultFile) -> list[str]:
    say("\nlatency: rows on a schedule")
    return measure_latency(
        options.rates,
        options.latency_ranks,
        place,
        results,
        seconds=options.latency_seconds,
        repeats=options.repeats,
        linger_s=options.linger_s,
    )


def _write_slurm(options: argparse.Namespace) -> int:
    given = ["--repeats", str(options.repeats), "--seconds", str(options.seconds)]
    given += ["--workloads", *options.workloads]
    launcher = "srun -n" if options.launcher == "auto" else options.launcher
    paths = write_scripts(options.out, options.ranks, launcher, given, time=options.slurm)
    for path in paths:
        print(f"sbatch {path}")
    print(f"then: python -m benchmarks report {options.out}/ranks-*.jsonl --out {options.out}")
    return 0


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


def _place(options: argparse.Namespace) -> Place:
    allowed = sorted(os.sched_getaffinity(0))
    return Place(options.launcher, tuple(allowed[: options.cores]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hpcstream bench", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="throughput of workloads, beside peers")
    run.set_defaults(answer=_run)
    _add_where(run)
    run.add_argument(
        "--quick",
        action="store_true",
        help="a look in some minutes: short timed parts, three repetitions; figures are rougher",
    )
    run.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    run.add_argument("--ranks", nargs="+", type=int, default=[1, 2])
    run.add_argument("--peers", nargs="*", choices=_PEERS, default=list(_PEERS))
    run.add_argument("--rows", type=int, help="rows of each made-up file (default: 10 million)")
    run.add_argument("--repeats", type=int, default=5)
    run.add_argument("--seconds", type=float, default=10.0, help="of each timed part, about")
    run.add_argument("--passes", type=int, help="replays of the file, instead of --seconds")
    run.add_argument(
        "--latency-seconds",
        type=float,
        default=10.0,
        help="of each paced run (0: none); open loop, so that a stall shows",
    )
    run.add_argument(
        "--long-rows",
        type=int,
        default=1_000_000_000,
        help="rows of the run that shows whether memory stays flat (0: none)",
    )
    run.add_argument("--rates", nargs="+", type=int, default=[100_000, 1_000_000])
    run.add_argument("--latency-ranks", type=int, default=2)
    run.add_argument("--linger-s", type=float, default=LINGER_S)
    run.add_argument(
        "--slurm",
        metavar="TIME",
        help="write a job script for each number of ranks, with this time limit, and run nothing",
    )
    run.add_argument("--weak", action="store_true", help="as many rows more as there are ranks")
    run.add_argument(
        "--no-variants",
        dest="variants",
        action="store_false",
        help="without 8 ranks and without the run that does not aggregate locally",
    )
    report = commands.add_parser("report", help="a report with plots, from files of results")
    report.set_defaults(answer=_report)
    report.add_argument("files", nargs="+", type=Path)
    report.add_argument("--out", type=Path, default=OUT / "report")
    return parser


def _add_where(command: argparse.ArgumentParser) -> None:
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    command.add_argument("--out", type=Path, default=OUT, help="folder of results")
    command.add_argument("--name", default=now, help="of the file of results")
    command.add_argument("--data", type=Path, help="folder of input files (default: OUT/data)")
    command.add_argument("--cores", type=int, help="how many cores to use (default: all)")
    command.add_argument(
        "--launcher", default="auto", help="a command to which the ranks are added: 'srun -n'"
    )
