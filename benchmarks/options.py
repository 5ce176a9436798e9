"""The options of ``hpcstream bench``."""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Callable
from pathlib import Path

from benchmarks.suites.latency import LINGER_S
from benchmarks.suites.programs import SUITES
from benchmarks.systems import SYSTEMS
from benchmarks.workloads.paced_queries import PACED
from benchmarks.workloads.workload import WORKLOADS

OUT = Path("out/benchmarks")
_PEERS = tuple(name for name in SYSTEMS if name != "hpcstream")

_USUAL = {"repeats": 5, "seconds": 10.0, "latency_seconds": 10.0, "long_rows": 1_000_000_000}
_QUICK = {**_USUAL, "repeats": 3, "seconds": 1.5, "latency_seconds": 4.0}

Answer = Callable[[argparse.Namespace], int]


def parser(run: Answer, report: Answer, description: str | None) -> argparse.ArgumentParser:
    """Return a parser whose commands are answered by two functions."""
    made = argparse.ArgumentParser(prog="hpcstream bench", description=description)
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    running = commands.add_parser("run", help="measure workloads beside peers, write a report")
    running.set_defaults(answer=run)
    _add_where(running)
    _add_what(running)
    _add_how_much(running)
    _add_paced(running)
    reporting = commands.add_parser("report", help="a report with plots, from files of results")
    reporting.set_defaults(answer=report)
    reporting.add_argument("files", nargs="+", type=Path)
    reporting.add_argument("--out", type=Path, default=OUT / "report")
    return made


def fill_in(options: argparse.Namespace) -> None:
    """Give what was not said its value; what was said stays, also beside ``--quick``."""
    values = dict(_QUICK if options.quick else _USUAL)
    if options.slurm:
        values |= {"latency_seconds": 0.0, "long_rows": 0}
    for name, value in values.items():
        if getattr(options, name) is None:
            setattr(options, name, value)


def _add_where(run: argparse.ArgumentParser) -> None:
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    run.add_argument("--out", type=Path, default=OUT, help="folder of results")
    run.add_argument("--name", default=now, help="of the file of results")
    run.add_argument("--data", type=Path, help="folder of input files (default: OUT/data)")
    run.add_argument("--cores", type=int, help="how many cores to use (default: all)")
    run.add_argument(
        "--launcher",
        default="auto",
        help="a command to which the ranks are added, such as 'srun --mpi=pmi2 -n' "
        "(default: the mpiexec of the MPI library)",
    )
    run.add_argument(
        "--slurm",
        metavar="TIME",
        help="write a job script for each number of ranks, with this time limit, and run nothing",
    )


def _add_what(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "--suites",
        nargs="+",
        choices=SUITES,
        default=list(SUITES),
        help="core: workloads, latency, memory; the others beside it (default: all)",
    )
    run.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    run.add_argument("--ranks", nargs="+", type=int, default=[1, 2])
    run.add_argument("--peers", nargs="*", choices=_PEERS, default=list(_PEERS))
    run.add_argument(
        "--no-variants",
        dest="variants",
        action="store_false",
        help="without 8 ranks and without the run that does not aggregate locally",
    )


def _add_how_much(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "--quick",
        action="store_true",
        help="a look in some minutes: short timed parts, three repetitions; figures are rougher",
    )
    run.add_argument("--rows", type=int, help="rows of each made-up file, events of each suite")
    run.add_argument("--repeats", type=int, help="default: 5; --quick: 3")
    run.add_argument(
        "--seconds", type=float, help="of each timed part, about (default: 10; --quick: 1.5)"
    )
    run.add_argument("--passes", type=int, help="replays of the file, instead of --seconds")
    run.add_argument(
        "--weak", action="store_true", help="as many rows a rank on any number of ranks"
    )
    run.add_argument(
        "--long-rows",
        type=int,
        help="rows of the run that shows whether memory stays flat, on two ranks (0: none; "
        "default: 1,000 million; --slurm: always none)",
    )


def _add_paced(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "--latency-seconds",
        type=float,
        help="of each paced run (0: none; default: 10; --quick: 4; --slurm: none); open loop, so "
        "that a stall shows",
    )
    run.add_argument("--paced", nargs="+", choices=PACED, default=list(PACED), help="what is paced")
    run.add_argument(
        "--no-sustained",
        dest="sustained",
        action="store_false",
        help="without the search for the highest rate at which lag does not grow",
    )
    run.add_argument("--rates", nargs="+", type=int, default=[100_000, 1_000_000])
    run.add_argument("--latency-ranks", type=int, default=2)
    run.add_argument("--linger-s", type=float, default=LINGER_S)
