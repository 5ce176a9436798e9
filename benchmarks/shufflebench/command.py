"""ShuffleBench: records matched to rules, sent to their consumers, and counted and summed there."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

import hpcstream as hs
from benchmarks.nexmark import command_line
from benchmarks.nexmark.bench import Input, World
from benchmarks.nexmark.query import Query, Views
from benchmarks.shufflebench.pipeline import queries
from benchmarks.shufflebench.records import columns, table
from benchmarks.shufflebench.rules import zipf_rules


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the pipelines and return the exit status: 1 if an answer was wrong."""
    options = _parser().parse_args(arguments)
    if command_line.must_start(options):
        return command_line.start_ranks("benchmarks.shufflebench", options, arguments)
    rules = zipf_rules(options.rules, options.selectivity, options.zipf, options.seed)
    found = queries(rules, options.window_ms or _window_ms(options))
    chosen = [found[name] for name in options.queries]
    return command_line.run_all("shufflebench", chosen, source(options), options)


def source(options: argparse.Namespace) -> Input:
    """Return the records that the options describe."""
    made = columns(options.seed, options.per_second, options.record_bytes)

    def views(job: hs.Job, query: Query) -> Views:
        lanes = None if options.rate is None else World().size
        records = job.generate(
            made,
            rows=options.records,
            rate=options.rate,
            seed=options.seed,
            event_time="time",
            splits=lanes,
        )
        return {"records": records}

    def tables(query: Query) -> dict[str, pa.Table]:
        return {"records": _with_hash(table(made, options.seed, options.records, list(made)))}

    schedule = None if options.rate is None else options.records / options.rate
    return Input(options.records, views, tables, schedule)


def _window_ms(options: argparse.Namespace) -> int:
    """Return a window in which a consumer has ``--every`` records on average."""
    records: float = options.every * options.rules / options.selectivity
    window_ms: int = max(1, round(1_000 * records / options.per_second))
    return window_ms


def _with_hash(records: pa.Table) -> pa.Table:
    """Return the records with their hash, and their number; written for NumPy, not compiled."""
    first, second = (records[name].to_numpy().view(np.uint64) for name in ("first", "second"))
    h = first ^ (second * np.uint64(0x9E3779B97F4A7C15))
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    hashes = ((h ^ (h >> np.uint64(31))) >> np.uint64(1)).view(np.int64)
    numbered = records.append_column("number", pa.array(np.arange(len(first))))
    values = pa.array(first.view(np.int64) >> np.int64(20))
    return numbered.append_column("hash", pa.array(hashes)).append_column("value", values)


def _parser() -> argparse.ArgumentParser:
    made = command_line.parser("shufflebench", __doc__, ("count", "carry"))
    made.set_defaults(queries=["count"])
    made.add_argument("--records", type=int, default=2_000_000)
    made.add_argument("--record-bytes", type=int, default=1_024)
    made.add_argument("--per-second", type=int, default=1_000_000, help="records, of event time")
    made.add_argument("--rate", type=float, help="records a second: makes the stream live")
    made.add_argument("--rules", type=int, default=1_000)
    made.add_argument("--selectivity", type=float, default=0.2, help="of all rules together")
    made.add_argument("--zipf", type=float, default=0.0, help="exponent of their selectivities")
    made.add_argument(
        "--every", type=int, default=10, help="records of a consumer for an output, on average"
    )
    made.add_argument("--window-ms", type=int, help="instead of --every")
    return made
