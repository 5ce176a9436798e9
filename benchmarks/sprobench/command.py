"""SProBench: sensor lines passed through (p0), parsed (p1) and averaged over windows (p2)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

import hpcstream as hs
from benchmarks.nexmark import command_line
from benchmarks.nexmark.bench import Input, World
from benchmarks.nexmark.query import Query, Views
from benchmarks.sprobench.lines import Sensors
from benchmarks.sprobench.load import LOADS, clock
from benchmarks.sprobench.pipeline import queries


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the pipelines and return the exit status: 1 if an answer was wrong."""
    options = _parser().parse_args(arguments)
    if command_line.must_start(options):
        return command_line.start_ranks("benchmarks.sprobench", options, arguments)
    found = queries(options.window_ms, options.advance_ms)
    chosen = [found[name] for name in options.queries]
    return command_line.run_all("sprobench", chosen, source(options), options)


def source(options: argparse.Namespace) -> Input:
    """Return the lines that the options describe."""
    sensors = Sensors(
        seed=options.seed,
        count=options.sensors,
        record_bytes=options.record_bytes,
        per_second=options.per_second,
    )

    def views(job: hs.Job, query: Query) -> Views:
        lines = job.generate(
            sensors.columns(), rows=options.records, event_time="time", **_pace(options)
        )
        return {"lines": lines}

    def tables(query: Query) -> dict[str, pa.Table]:
        return {"lines": sensors.table(options.records).select(query.reads["lines"])}

    schedule = None if options.rate is None else options.records / options.rate
    return Input(options.records, views, tables, schedule)


def _pace(options: argparse.Namespace) -> dict[str, Any]:
    if options.rate is None:
        return {}
    shape = clock(options.load, period_s=options.period, duty=options.duty, seed=options.seed)
    return {"rate": options.rate, "clock": shape, "splits": World().size}


def _parser() -> argparse.ArgumentParser:
    made = command_line.parser("sprobench", __doc__, ("p0", "p1", "p2"))
    made.add_argument("--records", type=int, default=2_000_000)
    made.add_argument("--record-bytes", type=int, default=27, help="as published counts them")
    made.add_argument("--sensors", type=int, default=64)
    made.add_argument("--per-second", type=int, default=100_000, help="lines, of event time")
    made.add_argument("--rate", type=float, help="lines a second: makes the stream live")
    made.add_argument("--load", choices=LOADS, default="constant", help="with --rate")
    made.add_argument("--period", type=float, default=1.0, help="of bursts, in seconds")
    made.add_argument("--duty", type=float, default=0.125, help="part of it in which rows come")
    made.add_argument("--window-ms", type=int, default=5_000)
    made.add_argument("--advance-ms", type=int, default=1_000)
    return made
