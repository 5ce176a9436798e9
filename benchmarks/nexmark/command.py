"""NEXMark: queries over people, auctions and bids, each checked against DuckDB.

Events are counted as published results count them: of all kinds, whatever a query reads. The
rows beside them are those that its sources delivered: of the 50 events, 46 bids for most.
Events of kinds that a query does not read are not made, which flatters it by up to an eighth.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa

import hpcstream as hs
from benchmarks.nexmark import command_line
from benchmarks.nexmark.bench import Input, World
from benchmarks.nexmark.config import KINDS, NexmarkConfig
from benchmarks.nexmark.events import TIME, columns, stream, table
from benchmarks.nexmark.queries import MISSING, QUERIES
from benchmarks.nexmark.query import Query, Views
from hpcstream.connectors.in_process.generate import BLOCK_ROWS
from hpcstream.connectors.in_process.generators import ColumnGenerator


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the queries and return the exit status: 1 if an answer was wrong."""
    options = _parser().parse_args(arguments)
    if options.list:
        return _list()
    if options.driver:
        return _driver(options)
    if command_line.must_start(options):
        return command_line.start_ranks("benchmarks.nexmark", options, arguments)
    queries = [QUERIES[name] for name in options.queries]
    return command_line.run_all("nexmark", queries, _input(options, queries), options, MISSING)


def _parser() -> argparse.ArgumentParser:
    made = command_line.parser("nexmark", __doc__, QUERIES)
    made.add_argument("--list", action="store_true", help="show the queries, also those missing")
    made.add_argument("--driver", action="store_true", help="only make events, on one core")
    made.add_argument("--events", type=int, default=2_000_000, help="of all kinds")
    made.add_argument("--events-per-second", type=int, default=100_000, help="of event time")
    made.add_argument("--rate", type=float, help="events a second: makes the stream live")
    made.add_argument(
        "--input", choices=("generate", "ipc"), default="generate",
        help="make events while the query runs, or read them from Arrow IPC files made before",
    )  # fmt: skip
    made.add_argument(
        "--plain-strings", action="store_true", help="no dictionary columns in the input"
    )
    return made


def _list() -> int:
    for query in QUERIES.values():
        print(f"{query.name:4} {query.title:32} runs{'; ' if query.differs else ''}{query.differs}")
    for name, (title, missing) in MISSING.items():
        print(f"{name:4} {title:32} needs {missing}")
    return 0


def _driver(options: argparse.Namespace) -> int:
    """Make all columns of all kinds, and say how fast; in processor time, as cores are shared."""
    config = _config(options)
    made = {kind: columns(kind, config) for kind in KINDS}
    _make(made, options.events)  # loads the kernels, and fills the pools of letters
    begin = time.thread_time()
    n_bytes = _make(made, options.events)
    seconds = time.thread_time() - begin
    print(
        f"nexmark: {options.events:,} events, {n_bytes / options.events:.0f} bytes each, made at "
        f"{options.events / seconds / 1e6:.1f} M events/s a core"
    )
    return 0


def _make(made: Mapping[str, Mapping[str, ColumnGenerator]], events: int) -> int:
    """Make events and let them go; return how many bytes their columns have."""
    n_bytes = 0
    for kind, named in made.items():
        rows = KINDS[kind].rows(events)
        for start in range(0, rows, BLOCK_ROWS):
            n_rows = min(BLOCK_ROWS, rows - start)
            arrays = [named[n].values(start, n_rows, 0) for n in named if n != "event"]
            n_bytes += sum(_own_bytes(array) for array in arrays)
    return n_bytes


def _own_bytes(array: pa.Array) -> int:
    """Return the bytes of the rows, without a dictionary."""
    own = array.indices if pa.types.is_dictionary(array.type) else array
    return int(own.nbytes)


def _config(options: argparse.Namespace) -> NexmarkConfig:
    return NexmarkConfig(
        seed=options.seed,
        events_per_second=options.events_per_second,
        dictionaries=not options.plain_strings,
    )


def _input(options: argparse.Namespace, queries: Sequence[Query]) -> Input:
    config = _config(options)
    events = options.events
    views = partial(_generated, config=config, events=events, rate=options.rate)
    if options.input == "ipc":
        kinds = {kind for query in queries for kind in query.reads}
        files = {kind: _file(kind, config, options) for kind in sorted(kinds)}
        views = partial(_read, files=files)
    schedule = None if options.rate is None else events / options.rate
    return Input(events, views, partial(_tables, config=config, events=events), schedule)


def _generated(
    job: hs.Job, query: Query, config: NexmarkConfig, events: int, rate: float | None
) -> Views:
    lanes = None if rate is None else World().size
    return {
        kind: stream(job, kind, config, events=events, rate=rate, splits=lanes)
        for kind in query.reads
    }


def _read(job: hs.Job, query: Query, files: dict[str, Path]) -> Views:
    return {kind: job.read_ipc(files[kind], event_time=TIME) for kind in query.reads}


def _tables(query: Query, config: NexmarkConfig, events: int) -> dict[str, pa.Table]:
    return {k: table(k, config, events, list(names)) for k, names in query.reads.items()}


def _file(kind: str, config: NexmarkConfig, options: argparse.Namespace) -> Path:
    """Return a file of all events of a kind; rank 0 makes it. Collective."""
    coding = "coded" if config.dictionaries else "plain"
    name = f"{kind}-{options.events}-{config.events_per_second}-{config.seed}-{coding}.arrow"
    path = Path(options.out / "data" / name)
    world = World()
    if world.rank == 0 and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        names = [n for n in columns(kind, config) if n != "event"]
        rows = table(kind, config, options.events, names)
        with pa.OSFile(str(unfinished), "wb") as file, pa.ipc.new_file(file, rows.schema) as out:
            out.write_table(rows)
        unfinished.rename(path)
    world.barrier()
    return path
