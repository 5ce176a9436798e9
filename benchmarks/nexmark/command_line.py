"""What the commands of this benchmark and of its two neighbours have in common."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.measure.launch import LaunchConfig
from benchmarks.measure.machine import describe_machine
from benchmarks.nexmark.bench import Input, Plan, World, measure
from benchmarks.nexmark.query import Query
from benchmarks.nexmark.query_tables import HEADER, cells
from benchmarks.report.results import Record, ResultFile
from benchmarks.report.tables import as_text
from hpcstream.cli.run import start
from hpcstream.process.launcher_facts import is_launched


def parser(name: str, description: str | None, queries: Iterable[str]) -> argparse.ArgumentParser:
    """Return a parser with the common options."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    names = list(queries)
    made.add_argument("--queries", nargs="+", choices=names, default=names, metavar="QUERY")
    made.add_argument("--ranks", type=int, default=1, help="start so many ranks")
    made.add_argument("--launcher", default="auto", help="as for `hpcstream run`")
    made.add_argument("--repeats", type=int, default=3, help="timed runs of each query")
    made.add_argument("--seed", type=int, default=7)
    made.add_argument("--out", type=Path, default=Path("out") / name, help="folder of files")
    made.add_argument("--json", type=Path, help="append records to this file, as JSON lines")
    made.add_argument(
        "--no-check", dest="check", action="store_false", help="do not ask DuckDB for the answer"
    )
    made.add_argument(
        "--no-local-aggregation", dest="local", action="store_false",
        help="send every row through the exchange",
    )  # fmt: skip
    return made


def must_start(options: argparse.Namespace) -> bool:
    """Return whether this process is to start the ranks instead of being one."""
    return options.ranks > 1 and not is_launched(os.environ)


def start_ranks(module: str, options: argparse.Namespace, arguments: Sequence[str] | None) -> int:
    """Start the same command on several ranks and return its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    program = [sys.executable, "-m", module, *given]
    return start(program, options.ranks, options.launcher, {"PYTHONPATH": path})


def run_all(
    suite: str,
    queries: Sequence[Query],
    source: Input,
    options: argparse.Namespace,
    missing: Mapping[str, tuple[str, str]] | None = None,
) -> int:
    """Run queries, print a table on rank 0, and return 1 if an answer was wrong. Collective.

    Parameters
    ----------
    missing : mapping of str to (str, str), optional
        Queries that cannot be said yet: the title of each, and what it needs.
    """
    world = World()
    changed = {} if options.local else {"local_aggregation": False}
    plan = Plan(options.repeats, options.check, options.out, changed)
    results = _result_file(options, world)
    for name, (title, needs) in (missing or {}).items() if results else ():
        results.add(
            {"kind": "missing", "suite": suite, "query": name, "title": title, "needs": needs}
        )
    records = []
    for query in queries:
        record = measure(suite, query, source, plan, world)
        records.append(record)
        if results is not None:
            results.add(record)
        if world.rank == 0:
            print(_line(record), file=sys.stderr, flush=True)
    if world.rank == 0:
        _show(suite, source, records)
    return 1 if any(record["fault"] for record in records) else 0


def _result_file(options: argparse.Namespace, world: World) -> ResultFile | None:
    if options.json is None or world.rank > 0:
        return None
    results = ResultFile(options.json)
    results.add(describe_machine(LaunchConfig()))
    return results


def _show(suite: str, source: Input, records: list[Record]) -> None:
    print(f"\n{suite}: {source.rows:,} events, {records[0]['label']}")
    print(as_text(HEADER, [cells(record) for record in records]))
    inputs = {k: v for record in records for k, v in record.get("input", {}).items()}
    if inputs:
        print("inputs (columns as the last query reads them): " + _pairs(inputs))
    lags = {r["query"]: f"{r['lag_s']:.2f} s" for r in records if r["lag_s"] is not None}
    if lags:
        print("behind schedule at the end: " + _pairs(lags))
    sys.stdout.flush()


def _line(record: Record) -> str:
    return " ".join(cells(record))


def _pairs(values: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
