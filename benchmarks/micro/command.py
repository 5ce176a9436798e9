"""Micro-benchmarks: what fraction of the machine the engine's exchange and kernels reach."""

from __future__ import annotations

import argparse
import datetime
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure.launch import LaunchConfig, run_module
from benchmarks.measure.machine import describe_machine
from benchmarks.measure.trial import Trial
from benchmarks.micro.kernels import CACHED, STREAM
from benchmarks.report.results import Record, ResultFile, read_results
from benchmarks.report.tables import as_text, spread_of

EXCHANGE_HEADER = (
    "ranks, bytes of a rank in a round", "round", "Ialltoallv", "of it", "rounds in flight",
    "Ialltoallv in flight", "of it",
)  # fmt: skip
KERNEL_HEADER = ("kernel", "GB/s", "of memory", "of cache", "spread")
ROWS = (0, 64, 1_024, 16_384, 65_536, 262_144)
QUICK_ROWS = (0, 1_024, 65_536)
BUDGET_S, QUICK_BUDGET_S = 0.5, 0.1


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, and return the exit status."""
    options = _parser().parse_args(arguments)
    config = LaunchConfig(options.launcher, tuple(sorted(os.sched_getaffinity(0))))
    results = ResultFile(options.out / f"{options.name}.jsonl")
    results.add(describe_machine(config))
    rows = options.rows or (QUICK_ROWS if options.quick else ROWS)
    budget_s = options.budget_s or (QUICK_BUDGET_S if options.quick else BUDGET_S)
    repeats = options.repeats or (3 if options.quick else 5)
    measure(results, config, options.ranks, rows, budget_s=budget_s, repeats=repeats)
    records = read_results([results.path])
    print(as_text(KERNEL_HEADER, kernel_rows(records)))
    print(as_text(EXCHANGE_HEADER, exchange_rows(records)))
    return 0


def measure(
    results: ResultFile,
    config: LaunchConfig,
    ranks: Sequence[int],
    rows: Sequence[int],
    *,
    budget_s: float,
    repeats: int,
) -> None:
    """Measure kernels on one core, then the exchange on each number of ranks; add records."""
    common = {"budget_s": budget_s, "repeats": repeats}
    kernels = {**common, "rows": 65_536, "scale": 128}
    for record in _run("kernels", 1, kernels, config)["kernels"]:
        results.add({"kind": "kernel", **record})
    for n_ranks in ranks:
        found = _run("exchange", n_ranks, {**common, "rows": list(rows)}, config)
        for record in found["sizes"]:
            results.add({"kind": "exchange", "ranks": n_ranks, **record})


def _run(name: str, ranks: int, options: dict[str, Any], config: LaunchConfig) -> dict[str, Any]:
    trial = Trial("micro", "hpcstream", "", 0, ranks=ranks, options=options)
    report, _ = run_module(
        f"benchmarks.micro.{name}", [trial.to_json()], trial, config, sample_every_s=60.0
    )
    return report


def kernel_rows(records: Sequence[Record]) -> list[tuple[str, ...]]:
    """Return the cells below `KERNEL_HEADER`: medians, as parts of both STREAM loops."""
    found: dict[str, list[float]] = {}
    for record in records:
        if record["kind"] == "kernel":
            found.setdefault(record["name"], []).append(record["bytes_per_second"])
    medians = {name: statistics.median(values) for name, values in found.items()}
    return [
        (
            name,
            f"{medians[name] / 1e9:.2f}",
            f"{medians[name] / medians[STREAM]:.0%}",
            f"{medians[name] / medians[CACHED]:.0%}",
            spread_of(values),
        )
        for name, values in found.items()
    ]


def exchange_rows(records: Sequence[Record]) -> list[tuple[str, ...]]:
    """Return the cells below `EXCHANGE_HEADER`: medians of the repetitions."""
    groups: dict[tuple[int, int], list[Record]] = {}
    for record in records:
        if record["kind"] == "exchange":
            groups.setdefault((record["ranks"], record["bytes"]), []).append(record)
    return [_exchange_row(*key, group) for key, group in groups.items()]


def _exchange_row(ranks: int, n_bytes: int, group: Sequence[Record]) -> tuple[str, ...]:
    def median(name: str) -> float:
        return statistics.median(record[name] for record in group)

    edge, raw, many, raw_many = map(
        median, ("edge_s", "raw_s", "edge_in_flight_s", "raw_in_flight_s")
    )

    def shown(seconds: float) -> str:
        rate = f", {n_bytes / seconds / 1e9:.2f} GB/s" if n_bytes else ""
        return f"{seconds * 1e6:.1f} µs{rate}"

    return (
        f"{ranks} ranks, {n_bytes:,} B",
        f"{edge * 1e6:.1f} µs",
        f"{raw * 1e6:.1f} µs",
        f"{raw / edge:.0%}",
        shown(many),
        shown(raw_many),
        f"{raw_many / many:.0%}",
    )


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m benchmarks.micro", description=__doc__)
    made.add_argument("--ranks", nargs="+", type=int, default=[2, 4])
    made.add_argument("--rows", nargs="+", type=int, help="of a rank in a round, 24 bytes each")
    made.add_argument("--quick", action="store_true", help="three sizes, short loops")
    made.add_argument("--budget-s", type=float, help="seconds of each loop, about")
    made.add_argument("--repeats", type=int)
    made.add_argument("--launcher", default="auto")
    made.add_argument("--out", type=Path, default=Path("out/benchmarks"))
    now = datetime.datetime.now().strftime("micro-%Y%m%d-%H%M%S")
    made.add_argument("--name", default=now, help="of the file of results")
    return made
