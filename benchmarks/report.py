"""A report in Markdown, with plots, from files of records; several files are taken together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.latency import HEADER as LATENCY_HEADER
from benchmarks.latency import latency_row
from benchmarks.micro.command import (
    EXCHANGE_HEADER,
    KERNEL_HEADER,
    exchange_rows,
    kernel_rows,
)
from benchmarks.plots import draw_all
from benchmarks.results import Record, read_results, summarize
from benchmarks.tables import HEADER, as_markdown, workload_rows
from benchmarks.targets import HEADER as TARGETS_HEADER
from benchmarks.targets import outcomes

UNFAIR = """\
- DuckDB and Polars answer the query over the whole file at once: no event time, no watermarks,
  no late rows, no rows handed out before the end. That is less work than hpcstream does.
- They use threads that share memory; hpcstream's ranks are processes, and share nothing.
- DuckDB and Polars scan the mapped file as it lies; hpcstream also adds a shift to the event
  time of each replay, so that it reads one endless stream.
- hpcstream's results go through a sink in the timed part; those of DuckDB and Polars stay where
  they are.
- Bytewax runs with one worker. Event by event it gets a file of 50,000 rows, as Python values
  made before its clock starts, filtered and joined already. With batches, its Polars has all cores,
  and it makes windows at the end of the file.
- The one-pass loop knows the keys as dense numbers before the clock starts, does not hash, and
  runs on one core.
- Start-up, import and compilation are outside the timed part, and are shown for all."""


def write_report(paths: Sequence[Path], folder: Path) -> Path:
    """Write ``report.md`` and its plots into a folder; return its path.

    A machine that measured several files is described once for each.
    """
    records = read_results(paths)
    folder.mkdir(parents=True, exist_ok=True)
    plots = draw_all(records, folder)
    parts = ["# Benchmarks of hpcstream", *_machines(records), *_targets(records)]
    parts += [f"![{plot.stem}]({plot.name})" for plot in plots]
    parts += [*_workloads(records), *_latency(records), *_micro(records), *_inputs(records)]
    parts += ["## What is unfair, in either direction", UNFAIR]
    path = folder / "report.md"
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def _machines(records: Sequence[Record]) -> list[str]:
    lines = []
    for record in records:
        if record["kind"] == "machine":
            packages = ", ".join(f"{name} {v}" for name, v in record["packages"].items())
            lines.append(
                f"{record['time']}, commit `{record['commit']}`: {record['cpu']}, "
                f"{record['cores']} cores, {record['memory_gib']} GiB, Linux {record['kernel']}, "
                f"load {record['load_average']:.1f} at the start; Python {record['python']}, "
                f"{record['mpi']}, {packages}. Two ranks are started with `{record['binding']}`."
            )
    return ["## Where", *lines]


def _targets(records: Sequence[Record]) -> list[str]:
    rows = [outcome.cells() for outcome in outcomes(records)]
    intro = "Two ranks on the cores that each peer has, medians of one interleaved run."
    return ["## Targets", intro, as_markdown(TARGETS_HEADER, rows)]


def _workloads(records: Sequence[Record]) -> list[str]:
    summaries = summarize(records)
    parts = []
    for workload in dict.fromkeys(s.workload for s in summaries):
        mine = [s for s in summaries if s.workload == workload]
        parts += [f"## {workload}", f"Median of {len(mine[0].values)}; the spread is the range."]
        parts.append(as_markdown(HEADER, [*workload_rows(mine), *_absent(records, workload)]))
    return parts


def _absent(records: Sequence[Record], workload: str) -> list[tuple[str, ...]]:
    labels = [r["label"] for r in records if r["kind"] == "absent" and r["workload"] == workload]
    blank = ("",) * (len(HEADER) - 2)
    return [(label, "not installed", *blank) for label in dict.fromkeys(labels)]


def _latency(records: Sequence[Record]) -> list[str]:
    rows = [latency_row(record) for record in records if record["kind"] == "latency"]
    if not rows:
        return []
    lingers = {record["linger_s"] for record in records if record["kind"] == "latency"}
    shown = ", ".join(f"{1e3 * linger:g} ms" for linger in sorted(lingers))
    intro = (
        f"Open loop, 2 ranks, linger {shown}: from when the last row of a 10 ms window was due "
        "to when its result was in the sink."
    )
    return ["## Latency", intro, as_markdown(LATENCY_HEADER, rows)]


def _micro(records: Sequence[Record]) -> list[str]:
    """Return the tables of `benchmarks.micro`, if its file of records is among those given."""
    tables = (
        ("Kernels, one core", KERNEL_HEADER, kernel_rows(records)),
        ("Exchange", EXCHANGE_HEADER, exchange_rows(records)),
    )
    return [
        part
        for title, header, rows in tables
        if rows
        for part in (f"## {title}", as_markdown(header, rows))
    ]


def _inputs(records: Sequence[Record]) -> list[str]:
    inputs = {r["workload"]: r for r in records if r["kind"] == "input"}
    answers = {r["workload"]: r["once"] for r in records if r["kind"] == "trial"}
    header = ("workload", "rows", "input (SHA-256, 16 digits)", "result rows", "mix of the results")
    rows = [
        (name, f"{r['rows']:,}", r["sha256"], f"{a['rows']:,}", a["mix"])
        for name, r in inputs.items()
        if (a := answers.get(name))
    ]
    return ["## Inputs and answers", as_markdown(header, rows)] if rows else []
