"""The first seconds: what short jobs get of the steady rate, and several ranks of one process.

    python -m benchmarks.first_seconds --workloads sliding wide --ranks 1 2

A short and a long timed part of each trial run in turns. Of a row count the medians; its first
ratio is short over long, its second that of the short parts over those of the first ranks given.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.measure.launch import LaunchConfig, run_trial
from benchmarks.measure.progress import say
from benchmarks.measure.trial import Trial
from benchmarks.report.tables import as_text
from benchmarks.workloads.datasets import build, count_rows
from benchmarks.workloads.workload import WORKLOADS

HEADER = ("workload", "ranks", "short, M rows/s", "long, M rows/s", "short / long", "of the first")
_SIZING_PASSES = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, and return the exit status."""
    options = _parser().parse_args(arguments)
    rows = [row for name in options.workloads for row in _rows_of(name, options)]
    print(as_text(HEADER, rows))
    return 0


def _rows_of(name: str, options: argparse.Namespace) -> list[tuple[str, ...]]:
    path = build(WORKLOADS[name].with_rows(options.rows), options.data.absolute())
    base = Trial(name, "hpcstream", str(path), count_rows(path), passes=_SIZING_PASSES)
    pairs = [_fitted(replace(base, ranks=ranks), options) for ranks in options.ranks]
    rates: list[list[tuple[float, float]]] = [[] for _ in pairs]
    for repetition in range(options.repeats):
        for (short, long), found in zip(pairs, rates, strict=True):
            found.append((_rate(short), _rate(long)))
            say(f"  {repetition + 1}/{options.repeats} {name}, {short.label}")
    medians = [[statistics.median(of) for of in zip(*found, strict=True)] for found in rates]
    return [
        _cells(name, ranks, short, long, medians[0][0])
        for ranks, (short, long) in zip(options.ranks, medians, strict=True)
    ]


def _cells(name: str, ranks: int, short: float, long: float, first: float) -> tuple[str, ...]:
    figures = (short / 1e6, long / 1e6, short / long, short / first)
    return name, str(ranks), *(f"{figure:.2f}" for figure in figures)


def _fitted(trial: Trial, options: argparse.Namespace) -> tuple[Trial, Trial]:
    """Return the trial with passes for a short and for a long part."""
    rate = _rate(trial)
    return trial.lasting(options.short, rate), trial.lasting(options.long, rate)


def _rate(trial: Trial) -> float:
    return float(run_trial(trial, LaunchConfig())["rows_per_second"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_seconds", description=__doc__)
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=["sliding", "wide"])
    parser.add_argument("--ranks", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rows", type=int, default=2_000_000, help="of each made-up file")
    parser.add_argument("--short", type=float, default=1.5, help="seconds of a short part, about")
    parser.add_argument("--long", type=float, default=8.0, help="seconds of a long part, about")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data", type=Path, default=Path("out/benchmarks/data"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
