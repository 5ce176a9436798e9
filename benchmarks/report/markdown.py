"""A report in Markdown, with plots, from files of records; several files are taken together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.micro.command import (
    EXCHANGE_HEADER,
    KERNEL_HEADER,
    exchange_rows,
    kernel_rows,
)
from benchmarks.nexmark import query_tables
from benchmarks.report.plots import draw_all
from benchmarks.report.results import Record, Summary, read_results, summarize
from benchmarks.report.rules import RULES, UNFAIR
from benchmarks.report.tables import HEADER, as_markdown, workload_rows
from benchmarks.report.targets import HEADER as TARGETS_HEADER
from benchmarks.report.targets import outcomes
from benchmarks.suites.latency import HEADER as LATENCY_HEADER
from benchmarks.suites.latency import latency_row
from benchmarks.suites.sustained import DEFINITION, sustained_rows
from benchmarks.suites.sustained import HEADER as SUSTAINED_HEADER


def write_report(paths: Sequence[Path], folder: Path) -> Path:
    """Write ``report.md`` and its plots into a folder; return its path."""
    records = read_results(paths)
    folder.mkdir(parents=True, exist_ok=True)
    plots = draw_all(records, folder)
    parts = ["# Benchmarks of hpcstream", *_machines(records), *_targets(records)]
    parts += [f"![{plot.stem}]({plot.name})" for plot in plots]
    parts += [*_workloads(records), *_latency(records), *_sustained(records)]
    parts += [*_inputs(records), *query_tables.sections(records), *_micro(records)]
    parts += ["## How it was measured", RULES]
    parts += ["## What is unfair, in either direction", UNFAIR]
    path = folder / "report.md"
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def _machines(records: Sequence[Record]) -> list[str]:
    """Return a paragraph for each machine and commit, however many of its parts were measured."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        if record["kind"] == "machine":
            groups.setdefault(_identity(record), []).append(record)
    return ["## Where", *map(_machine, groups.values())]


def _identity(record: Record) -> tuple[str, ...]:
    return tuple(str(record[name]) for name in ("host", "commit", "cores_used", "packages"))


def _machine(group: Sequence[Record]) -> str:
    first = group[0]
    packages = ", ".join(f"{name} {version}" for name, version in first["packages"].items())
    loads = ", ".join(f"{record['load_average']:.1f}" for record in group)
    busy = ", ".join(f"{record['busy_cores']:.1f}" for record in group if "busy_cores" in record)
    return (
        f"{first['time']}, commit `{first['commit']}`: {first['cpu']}, {first['cores']} cores, "
        f"{first['memory_gib']} GiB, Linux {first['kernel']}; Python {first['python']}, "
        f"{first['mpi']}, {packages}. Two ranks are started with `{first['binding']}`.\n\n"
        f"When each part began, the load average was {loads}, and others kept {busy or '?'} of the "
        f"{first['cores']} cores busy."
    )


def _targets(records: Sequence[Record]) -> list[str]:
    rows = [outcome.cells() for outcome in outcomes(records)]
    intro = "Two ranks on the cores that each peer has, medians of one interleaved run."
    return ["## Targets", intro, as_markdown(TARGETS_HEADER, rows)]


def _workloads(records: Sequence[Record]) -> list[str]:
    summaries = summarize(records)
    parts = []
    for workload in dict.fromkeys(s.workload for s in summaries):
        mine = [s for s in summaries if s.workload == workload]
        parts += [f"## {workload}", _repetitions(mine)]
        parts.append(as_markdown(HEADER, [*workload_rows(mine), *_absent(records, workload)]))
    return parts


def _repetitions(summaries: Sequence[Summary]) -> str:
    counts = sorted({len(summary.values) for summary in summaries})
    if counts == [1]:
        return "**One repetition each: no median, and no spread.**"
    shown = " or ".join(map(str, counts))
    alone = " **What says one run has no spread.**" if 1 in counts else ""
    return f"Median of {shown} repetitions, in turns; the spread is their range.{alone}"


def _absent(records: Sequence[Record], workload: str) -> list[tuple[str, ...]]:
    blank = ("",) * (len(HEADER) - 2)
    return [
        (label, why, *blank)
        for label, why in {
            r["label"]: r.get("why", "not installed")
            for r in records
            if r["kind"] == "absent" and r["workload"] == workload
        }.items()
    ]


def _latency(records: Sequence[Record]) -> list[str]:
    rows = [latency_row(record) for record in records if record["kind"] == "latency"]
    if not rows:
        return []
    lingers = {record["linger_s"] for record in records if record["kind"] == "latency"}
    shown = ", ".join(f"{1e3 * linger:g} ms" for linger in sorted(lingers))
    intro = (
        f"Open loop, linger {shown}, one row for each run. `latency`: from when the last row of a "
        "10 ms window was due to when its result was in the sink; every row crosses the exchange. "
        "`ysb`: from the end of a window of 1 s to when its last result was in the sink, as the "
        "Yahoo benchmark has it (its windows have 10 s, so that few would end in a run)."
    )
    return ["## Latency", intro, as_markdown(LATENCY_HEADER, rows)]


def _sustained(records: Sequence[Record]) -> list[str]:
    rows = sustained_rows(records)
    return ["## Sustained rate", DEFINITION, as_markdown(SUSTAINED_HEADER, rows)] if rows else []


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
