"""Runs a query on all ranks: once to check its answer, then timed."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

import hpcstream as hs
from benchmarks.nexmark.digest import CountSink, Digest, DigestSink, digest
from benchmarks.nexmark.query import Query, Views
from hpcstream import JobResult, Stream
from hpcstream.process.launcher_facts import is_launched


@dataclass(frozen=True)
class Input:
    """Where the rows come from.

    Attributes
    ----------
    rows : int
        How many are counted as read: of NEXMark, events of all kinds.
    views : callable
        Returns the streams that a query reads.
    tables : callable
        Returns the same rows in memory, in the columns that the query's SQL reads.
    schedule_s : float, optional
        How long the rows of a paced input take to fall due.
    """

    rows: int
    views: Callable[[hs.Job, Query], Views]
    tables: Callable[[Query], Mapping[str, pa.Table]]
    schedule_s: float | None = None


@dataclass(frozen=True)
class Plan:
    """How queries are run.

    Attributes
    ----------
    repeats : int
        Timed runs.
    check : bool
        Compare the answer with DuckDB's over the same rows.
    files : Path, optional
        Where queries that write files write them.
    options : dict
        Fields of ``JobConfig``.
    """

    repeats: int = 3
    check: bool = True
    files: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


class World:
    """All ranks of this benchmark; without a launcher, this process alone."""

    def __init__(self) -> None:
        self._comm: Any = None
        if is_launched(os.environ):
            from mpi4py import MPI

            self._comm = MPI.COMM_WORLD

    @property
    def rank(self) -> int:
        return 0 if self._comm is None else int(self._comm.rank)

    @property
    def size(self) -> int:
        return 1 if self._comm is None else int(self._comm.size)

    def barrier(self) -> None:
        if self._comm is not None:
            self._comm.Barrier()

    def total(self, own: Digest) -> Digest:
        """Return the digest of the rows of all ranks. Collective."""
        found = Digest()
        for answer in [own] if self._comm is None else self._comm.allgather(own):
            found.add(answer)
        return found

    def agreed(self, value: Any) -> Any:
        """Return rank 0's value. Collective."""
        return value if self._comm is None else self._comm.bcast(value)


def measure(suite: str, query: Query, source: Input, plan: Plan, world: World) -> dict[str, Any]:
    """Return a record of one query, in the form of `benchmarks.report.results`. Collective."""
    sink = DigestSink()
    begin = time.perf_counter()
    _run(query, source, plan, lambda rows: rows.sink(sink))
    first = time.perf_counter() - begin
    found = world.total(sink.digest)
    oracle = world.agreed(_check(query, source, found, world) if plan.check else {})
    timed = [_timed(query, source, plan, world) for _ in range(plan.repeats)]
    result = timed[-1][1]
    seconds = statistics.median(s for s, _ in timed)
    fault = oracle.get("fault", "") or _count_fault(timed, found)
    return {
        "kind": "query",
        "suite": suite,
        "query": query.name,
        "title": query.title,
        "differs": query.differs,
        "system": "hpcstream",
        "label": _label(world.size, plan),
        "ranks": world.size,
        "rows": source.rows,
        "seconds": seconds,
        "all_seconds": [s for s, _ in timed],
        "rows_per_second": source.rows / seconds,
        "rows_in": result.rows_in,
        "lag_s": None if source.schedule_s is None else seconds - source.schedule_s,
        "rows_out": found.rows,
        "windows": len(found.window_ends),
        "late_rows": result.late_rows,
        "rounds": result.rounds,
        "memory_bytes": [rank.peak_bytes for rank in result.per_rank],
        "startup_s": 0.0,
        "import_s": 0.0,
        "compile_s": max(0.0, first - seconds),
        "answer": found.to_json(),
        "fault": fault,
        **oracle,
    }


def _timed(query: Query, source: Input, plan: Plan, world: World) -> tuple[float, JobResult]:
    def end(rows: Stream) -> None:
        if query.writes_files and plan.files is not None:
            rows.write_parquet(plan.files / query.name)
        else:
            rows.sink(CountSink())

    world.barrier()
    begin = time.perf_counter()
    result = _run(query, source, plan, end)
    world.barrier()
    return time.perf_counter() - begin, result


def _run(query: Query, source: Input, plan: Plan, end: Callable[[Stream], None]) -> JobResult:
    job = hs.Job(query.name)
    end(query.build(source.views(job, query)))
    return job.run(show=False, **plan.options)


def _check(query: Query, source: Input, found: Digest, world: World) -> dict[str, Any]:
    """Return what DuckDB says, on rank 0: its time, the hash of its input, a fault."""
    if world.rank > 0:
        return {}
    from benchmarks.nexmark.oracle import answer

    tables = source.tables(query)
    schema = query.build(source.views(hs.Job("schema"), query)).schema
    rows, seconds = answer(query, tables, schema, threads=world.size)
    inputs = {name: digest(table.to_batches()).hash for name, table in tables.items()}
    return {
        "input": inputs,
        "duckdb_s": seconds,
        "duckdb_rows_per_second": source.rows / seconds,
        "fault": found.difference(digest(rows.to_batches())),
    }


def _count_fault(timed: list[tuple[float, JobResult]], found: Digest) -> str:
    wrong = [result.rows_out for _, result in timed if result.rows_out != found.rows]
    return f"a timed run returned {wrong[0]} rows instead of {found.rows}" if wrong else ""


def _label(ranks: int, plan: Plan) -> str:
    words = [f"hpcstream, {ranks} rank{'s' if ranks > 1 else ''}"]
    words += [f"{name}={value}" for name, value in sorted(plan.options.items())]
    return ", ".join(words)
